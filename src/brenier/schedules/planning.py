"""Plan: a law or a network, a sampler and a number of steps -> the noise levels to visit."""
