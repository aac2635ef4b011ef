"""Few-step samplers, each a small step function, and one driver."""
