"""Artifacts on disk: identity, manifests, locks, and the one place that makes them."""
