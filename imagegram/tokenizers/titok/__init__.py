"""A set of tokens without places: latents of a vision transformer with a codebook."""
