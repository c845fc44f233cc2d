"""What a run will need, said before it runs: images, tokens, disk, memory, time."""
