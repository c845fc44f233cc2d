"""Audit: images that another generator wrote, encoded again and looked up in the index."""
