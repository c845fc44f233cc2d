"""Networks: plain torch modules, without data, files or training code."""
