"""Many images at once on a device: the torch engine."""
