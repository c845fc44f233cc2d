"""Tokenizers: images to token ids and back."""
