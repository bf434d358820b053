"""What hub and agent must agree on: values, encodings and statistics. No input or output."""

PROTOCOL_VERSION = 1
