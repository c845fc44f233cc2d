"""Ordered tokens of a small network with finite scalar quantization, trained by the run."""
