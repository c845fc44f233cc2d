"""Generators: models fitted to tokens, which sample images or replay given ones."""
