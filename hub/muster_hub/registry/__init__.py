"""Model versions: brought in, checked, released, published."""
