"""Masked generation that reads captions."""
