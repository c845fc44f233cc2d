"""Sweeps: read the jobs of a multirun, compare them and draw figures; no scores are measured."""
