"""The n-gram generator: its definition, and engines that give the same answers faster."""
