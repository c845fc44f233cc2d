"""Suffix-array indexes over shards of token streams: three engines, one contract."""
