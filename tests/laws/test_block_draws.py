import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from brenier import Empirical, default_snrs
from brenier.core.blocks.blocks import Block
from brenier.laws import block_norms
from brenier.laws.block_draws import Variance, Variances, norms_along, pays, variances
from brenier.laws.block_products import Products, products, uniform
from brenier.laws.block_sums import Frame, Queries
from brenier.laws.blocked import BlockedEmpirical

N, D, P = 3000, 6, 2


@pytest.fixture(scope="module")
def atoms() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy((rng.standard_normal((N, D)) * np.linspace(2, 0.5, D)).astype(np.float32))


def asked(atoms: torch.Tensor, vectors: torch.Tensor, draws: float, salt: int = 0) -> tuple[Products, torch.Tensor]:
    """Two posteriors of one query at two SNRs, and their weights in float64."""
    x, z = atoms[:1] * 0.3, torch.ones(1, D)
    frame = Frame("atoms", torch.zeros(D, dtype=torch.float64), 1.0, torch.float32, torch.float32, torch.float32)
    queries = Queries(frame, x, z, [0.3, 1.0])
    distances = (atoms - x).double().square().sum(1)
    along = ((x - atoms).double() * z.double()).sum(1)
    logits = torch.stack([-(r**2) / 2 * distances - r * along for r in queries.ratios])
    weights = logits.softmax(1)
    peak, mass = logits.amax(1), (logits - logits.amax(1, keepdim=True)).exp().sum(1)
    moment = weights @ distances
    pairs = torch.tensor([[0, 1], [0, 0]])
    peak, mass, moment, none = (v[:, None] for v in (peak, mass, moment, torch.zeros_like(mass)))
    return Products(queries, peak, mass, none, moment, pairs, vectors, 0.0, draws, salt), weights


def over(atoms: torch.Tensor, told: Products, means: torch.Tensor, rest: torch.Tensor, size: int = N) -> Variance:
    every = torch.ones(P, dtype=torch.bool)
    parts = [
        variances(Block(atoms[k : k + size].numpy(), k // size, k), Variances(told, means, rest), every)
        for k in range(0, N, size)
    ]
    for part in parts[1:]:
        parts[0].merge(part)
    return parts[0]


def test_numbers_of_rows_are_uniform_whatever_the_block() -> None:
    whole = uniform(0, 200_000, 0)
    torch.testing.assert_close(uniform(1234, 500, 0), whole[1234:1734], rtol=0, atol=0)
    edges = torch.histc(whole, 50, 0, 1) / len(whole)
    assert float((edges - 0.02).abs().max()) < 5 * math.sqrt(0.02 / len(whole))
    for other in (uniform(0, 200_000, 1), uniform(1, 200_000, 0)):  # as good as independent
        assert abs(float(torch.corrcoef(torch.stack([whole, other]))[0, 1])) < 5 / math.sqrt(len(whole))


def test_sums_over_atoms_that_stay_are_unbiased_and_say_their_variance(atoms: torch.Tensor) -> None:
    vectors = torch.eye(D)[None, :3].expand(P, 3, D) @ torch.linalg.qr(torch.randn(D, D))[0]
    vectors[:, 1] = 0  # nothing known
    told, weights = asked(atoms, vectors, math.inf)
    steps = (atoms - told.queries.x).double()
    means = torch.stack([w @ (steps @ v.double().T) for w, v in zip(weights, vectors, strict=True)])
    y = torch.stack([steps @ v[0].double() for v in vectors]) - means[:, :1]
    truth = (weights * y.square()).sum(1)
    lengths = steps.square().sum(1)
    values, said, turned = [], [], []
    for salt in range(400):
        thin = over(atoms, replace(told, draws=300.0, salt=salt), means, truth)
        values.append(thin.second[:, 0] - truth * thin.mass)  # what the ratio's first order is
        said.append(thin.noise)
        turned.append(thin.turned)
    found, spread = torch.stack(values), torch.stack(said).mean(0)
    assert bool((found.mean(0).abs() < 4 * (spread / len(found)).sqrt()).all())
    assert bool(((found.var(0) / spread - 1).abs() < 0.35).all())  # five standard deviations of a variance of 400
    stake = weights * (1 + lengths / (weights @ lengths)[:, None])
    chance = (stake * 150).clamp_max(1)
    expected = (weights.square() * y.square() * lengths * (1 - chance) / chance).sum(1)
    torch.testing.assert_close(torch.stack(turned).mean(0), expected, rtol=0.1, atol=0)


def test_atoms_are_drawn_where_products_with_all_cost_most() -> None:
    assert pays(1_000_000, 3072, 20_000)
    assert not pays(200_000, 3072, 20_000)
    assert not pays(10_000_000, 256, 20_000)
    assert not pays(1_000_000, 3072, 2_000_000)


def test_blocks_keep_the_same_atoms(atoms: torch.Tensor) -> None:
    vectors = torch.eye(D)[None, :3].expand(P, 3, D)
    told, _ = asked(atoms, vectors, 200.0)
    one, many = (over(atoms, told, torch.zeros(P, 3), torch.zeros(P), size) for size in (N, 170))
    for name in ("mass", "first", "second", "noise", "turned"):
        torch.testing.assert_close(getattr(one, name), getattr(many, name), rtol=1e-4, atol=1e-5)


def test_where_all_stay_norms_are_exact(atoms: torch.Tensor) -> None:
    told, weights = asked(atoms, torch.zeros(P, 3, D), math.inf)
    steps = (atoms - told.queries.x).double()
    mean = weights @ steps
    covariances = torch.stack(
        [(steps * w[:, None]).T @ steps - torch.outer(m, m) for w, m in zip(weights, mean, strict=True)]
    )
    values, vectors = torch.linalg.eigh(covariances)
    v = torch.stack([vectors[..., -1], torch.zeros(P, D, dtype=torch.float64), vectors[..., -2]], 1)
    whole = replace(told, vectors=v, draws=1e9)
    norm, error = norms_along(over(atoms, whole, (v @ mean[:, :, None])[..., 0], values[:, -1]), torch.zeros(P))
    torch.testing.assert_close(norm, values[:, -1], rtol=1e-4, atol=0)
    assert float(error.max()) < 1e-6
    got = products(Block(atoms.numpy(), 0, 0), replace(whole, vectors=v[:, :1]), torch.ones(P, dtype=torch.bool))
    shift = got.shift / got.mass[:, None]
    image = got.product / got.mass[:, None, None] - (v[:, :1] @ shift[:, :, None]) * shift[:, None]
    torch.testing.assert_close(image, values[:, -1, None, None] * v[:, :1], rtol=1e-3, atol=1e-4)


def test_norms_from_some_atoms_are_within_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, dim = np.random.default_rng(1), 100
    scale = np.arange(1, dim + 1) ** -0.6
    centres = rng.standard_normal((10, dim)) * scale
    data = 4 * (rng.standard_normal((12_000, dim)) * scale + centres[rng.integers(10, size=12_000)])
    data = data.astype(np.float32)
    whole = Empirical(data, tolerance=1e-5)
    x, z = whole.sample(24, 1), torch.randn(24, dim, generator=torch.Generator().manual_seed(2))
    grid = default_snrs(whole, 30).tolist()
    truth = whole.localize_path(x, z, grid)
    assert truth.trace is not None
    told: list[int] = []

    def counted(sums: Variance, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        norm, error = norms_along(sums, known)
        told.append(int((error < 0.04).sum()))
        return norm, error

    monkeypatch.setattr(block_norms, "norms_along", counted)
    monkeypatch.setattr(block_norms, "pays", lambda *_: True)
    ends = []
    for size in (900, 12_000):
        found = BlockedEmpirical.of(data, size, tolerance=0.05).localize_path(x, z, grid)
        assert found.norm_error is not None
        assert found.trace is not None
        assert told.pop() > 10
        assert float(found.norm_error.max()) <= 0.05
        assert bool(((found.norm - truth.norm).abs() <= (found.norm_error + 1e-4) * truth.norm + 1e-6).all())
        torch.testing.assert_close(found.trace, truth.trace, rtol=0.05, atol=1e-6)
        ends.append(torch.where(truth.norm > 0.01, found.norm, 0))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-6)
