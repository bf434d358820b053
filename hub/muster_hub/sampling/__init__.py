"""Raw data from devices: who asked for which rows, what came, and its end."""
