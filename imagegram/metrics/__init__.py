"""Metrics: each measures generated, held-out and training images in the same way."""
