"""A finished run that writes on request: in Python, in a terminal, over HTTP."""
