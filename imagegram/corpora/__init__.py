"""Corpora: real images, as shards in a fixed order."""
