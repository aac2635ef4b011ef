"""Samples in a terminal: what was drawn, what it took, and how far from the law they are."""

from typing import TYPE_CHECKING

from brenier.reports.tables import many, say, scale

if TYPE_CHECKING:
    from brenier.distances.distance import Distance
    from brenier.laws.base import Target
    from brenier.sampling.sample import Samples


def show_samples(samples: "Samples", law: "Target", distance: "Distance | None", *, seed: int, seconds: float) -> None:
    """Print what was drawn, what it took and, where it is known, how far the samples are from the law."""
    say(
        f"{law.name}: {many(len(samples.points), 'sample')} of shape {shape_of(samples)} by "
        f"{many(samples.schedule.steps, 'step')} of {samples.solver}, seed {seed}: "
        f"{many(samples.evaluations, 'evaluation')} of the denoiser each, {seconds:.1f} s in all."
    )
    if distance is not None:
        own = law.drawn_from
        whom = f"the data {own.name}" if law.learned and own is not None else "the law"
        say(f"W2 to {whom}: {scale(distance.value)} ± {scale(distance.value_se, 2)}.")


def shape_of(samples: "Samples") -> str:
    """The shape of one sample, in words."""
    return " x ".join(str(side) for side in samples.event_shape)
