"""Metrics: one question each, asked in the same way of generated, held-out and training images."""
