"""Experiments on record: one folder a question, with its numbers, figures and command."""
