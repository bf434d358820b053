"""Devices as decisions know them, and which release each is assigned."""
