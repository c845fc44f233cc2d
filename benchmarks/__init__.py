"""Side-by-side timings; run with ``make bench``. Ratios are taken in one run, never asserted."""
