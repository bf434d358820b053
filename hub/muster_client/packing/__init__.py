"""From a model file and a table of data to a bundle. Needs the runtime, and no hub."""
