"""Planner: writes steps of K ids, such as the K codes of a sentence, a step from those before."""
