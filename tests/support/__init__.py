"""Builders shared by tests of every package."""
