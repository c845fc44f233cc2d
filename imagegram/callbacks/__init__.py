"""Callbacks in Lightning's hook style, and the progress bars that stages report to."""
