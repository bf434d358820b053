"""The commands of muster, one module a noun."""
