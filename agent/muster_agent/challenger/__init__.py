"""A second model that is run in shadow, beside the one that answers."""
