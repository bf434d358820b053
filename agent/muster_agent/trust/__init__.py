"""What the device believes: the signed catalogue, kept durably, and time."""
