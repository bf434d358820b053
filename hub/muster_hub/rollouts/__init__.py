"""The staged change of an assignment: plans, decisions, steps, words."""
