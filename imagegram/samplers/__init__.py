"""Samplers: the knobs between a model and its samples."""
