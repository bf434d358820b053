"""The device's service: its processes wired together, what it decides, its commands."""
