"""Alerts on their way to people and programs: webhook, Alertmanager, e-mail."""
