"""Where answers go: one file for each kind of sink."""
