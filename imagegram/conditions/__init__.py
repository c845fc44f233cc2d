"""Conditions: what every sample is asked to be."""
