"""Bringing a new model into a slot: one table, one writer of the journal."""
