"""The spatial generator: an n-gram whose context is a list of places instead of the last tokens."""
