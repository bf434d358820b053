"""Pictures: from the bytes of a file to a model's input, the same in training and on the edge."""
