"""Wasserstein distances between samples and laws, with error bars."""

from brenier.distances.distance import Distance
from brenier.distances.wasserstein import (
    debiased_w2,
    exact_w2,
    gelbrich,
    sinkhorn_divergence,
    sliced_w2,
    sorted_w2,
    w2,
)

__all__ = ["Distance", "debiased_w2", "exact_w2", "gelbrich", "sinkhorn_divergence", "sliced_w2", "sorted_w2", "w2"]
