"""Sweeps: the jobs of a multirun read back, compared and drawn; nothing is measured here."""
