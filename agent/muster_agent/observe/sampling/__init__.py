"""Rows of raw data that a signed policy asks for: chosen, sealed, counted, deleted when it ends."""
