"""What is counted of a model's life: baselines, summaries, drift."""
