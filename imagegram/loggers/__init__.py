"""Loggers: ``metrics.jsonl`` is always written; W&B and Lightning's own are named in conf/."""
