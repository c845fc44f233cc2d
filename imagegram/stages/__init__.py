"""The four stages; each writes one kind of artifact."""
