"""The audit log: written, chained, archived."""
