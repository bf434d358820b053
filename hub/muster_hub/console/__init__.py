"""Pages for people: what the API knows, with the acts that follow from it."""
