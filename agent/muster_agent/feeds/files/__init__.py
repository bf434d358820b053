"""Files and web hooks: lines that a logger appends, answers in a file, answers that are posted."""
