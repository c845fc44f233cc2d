"""Mixtures: the probabilities of two generators, weighted by what validation documents say."""
