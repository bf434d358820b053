"""Bringing a bundle's bytes to the device: from the broker, by HTTP, from a stick."""
