"""Latent flow: tokens of a chunk become one continuous latent, latents are sampled by a flow."""
