"""Building an index: suffix sorting, side files, coarse ids, labels."""
