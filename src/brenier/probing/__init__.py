"""Where a law is hard to denoise, what its chain does, and whether a network knows it."""
