"""Models that other tools keep: one file for each kind of source, one call that packs them."""
