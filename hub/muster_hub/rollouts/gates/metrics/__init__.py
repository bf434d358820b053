"""Metrics that gates judge by, one file each: its rule and its reading."""
