"""Training: what decides it, the loop that Lightning runs, and states that it continues from."""
