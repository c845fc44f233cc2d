"""Renderer: a language model over BPE tokens that writes the sentences of codes."""
