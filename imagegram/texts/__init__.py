"""The text modality: reading, near-duplicates, samples as JSON lines, highlighted sources."""
