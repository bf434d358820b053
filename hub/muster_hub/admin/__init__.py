"""The muster-hub command."""
