"""From a machine to a slot and back: sources, windows, features and sinks, a process per feed."""
