"""Autoregressive transformers: one token after the other, in raster or in permuted order."""
