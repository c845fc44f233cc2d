"""Command-line tools, ``python -m imagegram.tools.<verb>``; without a verb they are listed."""
