"""Encoders: pixels to features. Each owns its preprocessing, which is part of its identity."""
