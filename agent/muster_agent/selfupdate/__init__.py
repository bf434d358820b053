"""The agent's own update: two sides, one that runs and one to install the next release into."""
