"""The hub's side of MQTT: the managed broker, the client, publishing and ingest."""
