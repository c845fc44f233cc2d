"""A grid of tokens of a convolutional autoencoder with a codebook, trained by the run."""
