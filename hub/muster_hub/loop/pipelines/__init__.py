"""Orchestrators that train: one file each."""
