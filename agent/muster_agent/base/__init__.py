"""The agent's ground: settings and clocks."""
