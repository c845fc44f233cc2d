"""The image modality: decoding, resampling, thumbnails, near-duplicates, grids."""
