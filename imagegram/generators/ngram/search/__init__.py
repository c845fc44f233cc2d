"""Contexts found by binary search: many shards, anchors, labels, coarse contexts."""
