"""Training data, and the baseline that is made of it. Needs NumPy and no hub."""
