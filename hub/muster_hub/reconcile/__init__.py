"""The hub's engine: load → decide → persist with the messages that follow, in one transaction."""
