"""From drift to a better model: when to retrain, what becomes of it, who starts it."""
