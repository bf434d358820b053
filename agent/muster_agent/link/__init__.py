"""The device's link to the hub: MQTT, or memory in simulated worlds."""
