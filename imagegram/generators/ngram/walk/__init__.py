"""Contexts carried from token to token, without a search."""
