"""Loggers: ``metrics.jsonl`` is always written; all others are Lightning's own, named in conf/."""
