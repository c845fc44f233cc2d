"""MaskGIT: all tokens at once, the surest first (Chang et al. 2022, arXiv 2202.04200)."""
