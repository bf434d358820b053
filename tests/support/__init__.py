"""Builders shared by tests of every room."""
