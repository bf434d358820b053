"""Pages, one file a screen."""
