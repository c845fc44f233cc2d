"""Quilting: pictures of patches, each of another training image, along the layout of a mixture."""
