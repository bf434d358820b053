"""MQTT: a connection to a plant's broker, tags in messages, answers as messages."""
