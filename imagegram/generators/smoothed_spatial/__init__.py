"""Smoothed spatial contexts: a probability for every token of a pyramid from the places around."""
