"""Noise levels by hand: the formulas that people choose from."""
