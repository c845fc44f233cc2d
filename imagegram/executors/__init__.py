"""Executors: where independent jobs run. Tasks write files and return little, never arrays."""
