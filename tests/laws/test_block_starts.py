import torch

from brenier.laws.block_starts import TAKEN, from_sample
from brenier.laws.block_sums import Frame, Queries


def test_vectors_from_a_sample_lead_its_posteriors() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(2, 0.2, 10, dtype=torch.float64)
    sample = torch.randn(300, 10, generator=generator, dtype=torch.float64) * scale
    frame = Frame("data", torch.zeros(10).double(), 1.0, torch.float64, torch.float64, torch.float64)
    z = torch.randn(5, 10, generator=generator, dtype=torch.float64)
    queries = Queries(frame, sample[:5], z, [0.1, 0.7])
    snr, query = torch.tensor([0, 1, 1, 0]), torch.tensor([4, 2, 0, 2])
    found = from_sample(queries, sample, snr, query)
    assert found.shape == (4, TAKEN, 10)
    for s, q, leading in zip(snr.tolist(), query.tolist(), found, strict=True):
        r = queries.ratios[s]
        weights = (-(r * sample[q] + z[q] - r * sample).square().sum(1) / 2).softmax(0)
        steps = sample - weights @ sample
        covariance = steps.T @ (weights[:, None] * steps)
        largest = torch.linalg.eigvalsh(covariance)[-1]
        first = leading[0]  # found to the 1% that `norm_by_krylov` ends at
        assert 0.99 * largest <= first @ covariance @ first / first.square().sum() <= largest * (1 + 1e-12)
