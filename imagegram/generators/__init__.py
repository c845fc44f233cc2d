"""Generators: what is fitted to tokens and then samples images or replays given ones."""
