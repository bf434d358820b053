"""`muster`, the operator's command line. It talks to the hub's HTTP API and to nothing else."""
