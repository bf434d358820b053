"""Alerts: what opens them, why, whom they reach."""
