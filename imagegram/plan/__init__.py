"""Plans: estimates, before a run, of the images, tokens, disk, memory and time that it needs."""
