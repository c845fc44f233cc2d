"""Smoothed n-grams: Kneser-Ney and absolute discounting, as models that write and score."""
