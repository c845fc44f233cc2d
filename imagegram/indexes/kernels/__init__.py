"""Compiled searches over an index shard."""
