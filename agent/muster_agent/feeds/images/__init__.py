"""Pictures as a source: dropped into a folder, and prepared as the signed manifest says."""
