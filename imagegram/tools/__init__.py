"""Command-line tools: ``python -m imagegram.tools.<verb>``. Each has ``--help``."""
