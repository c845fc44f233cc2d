"""The stages of an experiment, the parts they are made of, and what they leave on disk."""
