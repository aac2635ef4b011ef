"""Where the steps of a sampler go."""
