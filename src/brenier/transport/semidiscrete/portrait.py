"""What is kept with a fitted map: how far its cells are off, and what it pays, on draws that the fit has not seen."""

import math
from dataclasses import asdict

import xarray as xr

from brenier.core.random import generator_for
from brenier.transport.semidiscrete.blocked import BlockedSemiDiscrete
from brenier.transport.semidiscrete.conditions import TESTED, ByCondition
from brenier.transport.semidiscrete.coupling import COSTED, independent_cost, mean_cost
from brenier.transport.semidiscrete.map import FRESH, SemiDiscrete
from brenier.transport.semidiscrete.skew import skew_test


def portrait(transport: SemiDiscrete | BlockedSemiDiscrete, *, samples: int = FRESH, seed: int = 0) -> xr.Dataset:
    """The map as a dataset, measured on fresh draws.

    To what `SemiDiscrete.to_dataset` holds it adds, as attributes, the fields of `MarginalError`, and those of `Cost`
    with "w2_" before them, and `independent`, the root of the mean squared distance of independent noise and data. Of a
    map with classes or conditions also what `skew_test` found, with "skew_"; with conditions `paid`, the root of the
    mean squared distance of its pairs, with its standard error.

    Args:
        transport: a fitted map.
        samples: draws that the masses of the cells are counted from.
        seed: of all draws.

    Raises:
        ValueError: nothing was fitted; fewer than 512 samples.
    """
    error, cost = transport.marginal_error(samples, seed), transport.w2(seed=seed)
    found = transport.to_dataset()
    found.attrs |= {
        "measured": "fresh independent draws of the source, counted into the cells",
        **asdict(error),
        **{f"w2_{name}": value for name, value in asdict(cost).items()},
        "independent": math.sqrt(independent_cost(transport, seed)[0]),
        "seed": seed,
    }
    if isinstance(transport, BlockedSemiDiscrete):
        return found
    if transport.labels is not None:
        x, index = transport.draw_pairs(TESTED, generator_for(seed, 0x5E))
        skew = skew_test(x, transport.labels[index.cpu()], seed=seed)
        found.attrs |= {f"skew_{name}": value for name, value in skew._asdict().items()}
    if isinstance(transport, ByCondition):
        square, square_se = mean_cost(transport, min(samples, COSTED), seed)
        found.attrs |= {"paid": math.sqrt(square), "paid_se": square_se / (2 * math.sqrt(square))}
    return found
