"""The hub's settings, typed."""
