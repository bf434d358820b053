"""What a version must show before it may be signed, as a model's policy asks. Pure."""
