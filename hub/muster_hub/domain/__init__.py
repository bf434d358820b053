"""The hub's decisions, pure: values in, values and reasons out. No clock, database or network."""
