"""Vectors from which Krylov spaces of posteriors on atoms in blocks start, so that few products are needed.

A product with the covariance of a posterior on atoms in blocks is a round over all of them, for each vector. Vectors
that are nearly the leading ones come from atoms in memory: those that were listed as the heaviest, where these hold
most of the posterior; else a sample, in which the same weights are an estimate of the posterior. Leading directions of
the data, in which second moments of all atoms are known, say the rest.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.linalg import norm_by_krylov
from brenier.laws import block_sums as sums
from brenier.laws.atoms import Covariances, chunked, random_start

TAKEN = 2  # vectors that a space starts from
RANDOM = 4  # random ones that find them
STEPS = 3  # products with covariances in the sample
ATOMS = 4096  # of the sample
AT_ONCE = 2**22  # numbers of vectors


def from_sample(
    queries: sums.Queries, sample: Float[Tensor, "m d"], snr: Int[Tensor, " P"], query: Int[Tensor, " P"]
) -> Float[Tensor, "P 2 d"]:
    """Leading Ritz vectors of the posteriors in a sample of the atoms, given by numbers of SNR and query."""
    atoms = sample[:: max(1, len(sample) // ATOMS)]
    squares = sums.squares(atoms)
    random = torch.randn(RANDOM, len(atoms), generator=torch.Generator().manual_seed(0)).to(atoms)
    parts: list[Tensor] = []
    for at in torch.arange(len(snr)).split(max(1, AT_ONCE // (RANDOM * atoms.shape[1]))):
        own, place = query[at].unique(return_inverse=True)
        distances, slopes = queries.grams(own, atoms, squares)
        weights = torch.empty(len(at), len(atoms), dtype=atoms.dtype)
        for s in snr[at].unique().tolist():
            here = snr[at] == s
            weights[here] = queries.logits(distances[place[here]], slopes[place[here]], s).softmax(1).to(atoms)
        covariances = Covariances(weights, chunked(atoms), about=queries.x[query[at]].to(atoms))
        start = random_start(weights, atoms, random)
        parts.append(norm_by_krylov(covariances, start, steps=STEPS)[2][:, :TAKEN])
    return torch.cat(parts)
