"""Tokenizers: images or texts to token ids and back."""
