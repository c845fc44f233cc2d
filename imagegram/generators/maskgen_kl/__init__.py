"""Masked autoregression over continuous latents of images, under captions."""
