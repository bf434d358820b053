"""The hub's HTTP API: thin routes over the database, the registry and the engine's commands."""
