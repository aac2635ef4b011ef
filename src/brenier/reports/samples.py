"""Samples in a terminal: what was drawn, what it took, and how far from the law they are."""

from typing import TYPE_CHECKING

from brenier.reports.tables import many, say, scale

if TYPE_CHECKING:
    from brenier.distances.distance import Distance
    from brenier.laws.base import Target
    from brenier.laws.flow import Straightness
    from brenier.sampling.sample import Samples


def show_samples(
    samples: "Samples",
    law: "Target",
    distance: "Distance | None",
    straight: "Straightness | None" = None,
    *,
    seed: int,
    seconds: float,
) -> None:
    """Print what was drawn, what it took and, where they are known, how far from the law and how straight it went."""
    say(
        f"{law.name}: {many(len(samples.points), 'sample')} of shape {shape_of(samples)} by "
        f"{many(samples.steps, 'step')} of {samples.solver}, seed {seed}: {many(samples.evaluations, 'evaluation')} of "
        f"the {'denoiser' if samples.times is None else 'velocity'} each, {seconds:.1f} s in all."
    )
    if straight is not None:
        bent = f"{scale(straight.value)} ± {scale(straight.value_se, 2)}"
        say(f"Straightness: int E|v - (x1 - x0)|^2 dt = {bent}, {100 * straight.share:.2g}% of int E|v|^2 dt.")
    if distance is not None:
        own = law.drawn_from
        whom = f"the data {own.name}" if law.learned and own is not None else "the law"
        say(f"W2 to {whom}: {scale(distance.value)} ± {scale(distance.value_se, 2)}.")


def shape_of(samples: "Samples") -> str:
    """The shape of one sample, in words."""
    return " x ".join(str(side) for side in samples.event_shape)
