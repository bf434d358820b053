"""What Prometheus scrapes from the hub."""
