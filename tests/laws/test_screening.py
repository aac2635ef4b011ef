from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brenier.laws import block_norms, block_sums
from brenier.laws.blocked import BlockedEmpirical
from brenier.laws.screening import kept


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0.1, 30), st.integers(1, 40))
def test_no_block_weighs_more_than_its_bound(seed: int, r: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.sort(rng.normal(size=(120, 3)), axis=0) * 3 + rng.normal(size=(120, 3)) / 10
    law = BlockedEmpirical.of(points, size)
    x, z = torch.from_numpy(rng.normal(size=(5, 3))), torch.from_numpy(rng.normal(size=(5, 3)))
    queries = block_sums.Queries(law._exact, x.float(), z.float(), [r])
    none = torch.zeros(0, dtype=torch.long)
    found = law.blocks.map_reduce(
        block_sums.posterior_sums, block_sums.merge_sums, shared=block_sums.First(queries, None, none)
    )
    masses = torch.stack([mass[0] for _, mass, _ in found.blocks], 1)
    bounds = law._places.bounds(queries, 0)
    assert bool((masses <= bounds + 1e-3).all())
    chosen, left = kept(bounds, found.log_mass[0], 1e-6)
    out = torch.where(chosen, -torch.inf, masses).double().logsumexp(1)
    assert bool((out <= left + 1e-3).all())
    assert bool((left <= found.log_mass[0] + np.log(1e-6)).all())


def test_past_the_collapse_clusters_that_cannot_matter_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 6)) * 20
    points = np.repeat(centres, 50, axis=0) + rng.normal(size=(2000, 6))
    law, x = BlockedEmpirical.of(points, 50), torch.from_numpy(points[::100]).float()
    z = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    products: list[int] = []
    grams = block_sums.Queries.grams

    def counted(self: block_sums.Queries, rows: torch.Tensor, atoms: torch.Tensor, squares: torch.Tensor) -> Any:
        products.append(len(rows) * len(atoms) if len(atoms) == 50 else 0)  # those of blocks
        return grams(self, rows, atoms, squares)

    monkeypatch.setattr(block_sums.Queries, "grams", counted)
    screened = law.localize_path(x, z, [3.0, 10.0])
    few = sum(products)
    products.clear()
    monkeypatch.setattr(block_norms.Batch, "_screen", lambda self: (None, torch.full(self._shape, -torch.inf).double()))
    whole = law.localize_path(x, z, [3.0, 10.0])
    assert few * 10 < sum(products)
    assert screened.screened is not None
    assert screened.screened.read < 0.1
    assert screened.screened.dropped <= 1e-6
    torch.testing.assert_close(screened.norm, whole.norm, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(screened.ess, whole.ess, rtol=1e-5, atol=0)
