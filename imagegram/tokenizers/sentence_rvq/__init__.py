"""Sentence codes: sentences as tuples of codes of a residual quantizer."""
