"""Samplers: one step of each, what drives them, where their steps go, and how they compare."""
