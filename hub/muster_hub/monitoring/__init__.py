"""What devices measure: drift, rollups, trends, peers."""
