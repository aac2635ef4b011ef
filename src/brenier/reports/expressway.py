"""An expressway in a terminal: where its map hands over and why, how good the map is, and how much is copied."""

from typing import TYPE_CHECKING

from brenier.metrics.verdicts import copies
from brenier.reports.flow import ENDS
from brenier.reports.samples import shape_of
from brenier.reports.tables import many, say, scale, with_error

if TYPE_CHECKING:
    import xarray as xr

    from brenier.metrics.copying import Memorisation
    from brenier.sampling.expressway import Expressway
    from brenier.sampling.sample import Samples
    from brenier.transport.semidiscrete.measures import MarginalError


def show_expressway(
    way: "Expressway",
    samples: "Samples",
    *,
    error: "MarginalError | None",
    flow: "xr.Dataset | None",
    memory: "Memorisation | None",
    seed: int,
    seconds: float,
) -> None:
    """Print what was drawn, where the map hands over and why, how good it is, and how much is copied.

    Args:
        way: the fitted expressway.
        samples: what it put out.
        error: how far the cells of its transport are off; None where there is none, or where it is exact.
        flow: the portrait of its Monge-Ampère map; None where there is none.
        memory: how near the samples are to the data; None for too few data.
        seed: of the samples.
        seconds: that all of it took.
    """
    whole = f"{many(len(samples.points), 'sample')} of shape {shape_of(samples)}, seed {seed}, {seconds:.1f} s in all"
    by = "" if samples.schedule is None else f" by {samples.schedule.criterion}"
    steps = f"{many(samples.steps, 'step')} of {samples.solver}{by}"
    assert way.handover is not None  # the expressway is fitted
    for line in (
        f"{way.law.name} from {many(len(way.data), 'point')} of {way.data.name}: {whole}.",
        f"Handover at SNR {scale(way.handover.snr)} (sigma {scale(way.handover.sigma)}): {way.handover.reason}.",
        _transport(way, error) if flow is None else _flow(flow),
        f"Then {steps}: {many(samples.evaluations, 'evaluation')} of the denoiser each; the map takes none.",
        *([] if memory is None else [_copies(memory)]),
    ):
        say(line)


def _transport(way: "Expressway", error: "MarginalError | None") -> str:
    """How good the transport is, on fresh draws."""
    if way.transport is None or way.transport.result is None:
        return "Latents drawn at random: no transport."
    fit = way.transport.result
    if error is None:
        return "Transport: exact."
    return (
        f"Transport: cells are off the weights by a total variation of {scale(error.excess, 2)} ± "
        f"{scale(error.excess_se, 1)} beyond sampling noise; the fit ended by {fit.stopped} after {fit.seconds:.1f} s "
        f"and {many(fit.samples, 'draw')}."
    )


def _flow(flow: "xr.Dataset") -> str:
    """How good the map of a Monge-Ampère flow is, on fresh draws."""
    about = flow.attrs
    return (
        f"Monge-Ampère map: W2 to the latents {with_error(about, 'w2')}, floor {with_error(about, 'floor')}; the flow "
        f"took {many(int(about['steps']), 'step')} and ended {ENDS[about['stopped']]}."
    )


def _copies(memory: "Memorisation") -> str:
    """Whether samples lie nearer to the data than data do."""
    found, control = memory.samples.shares(), memory.control.shares()["closer"]
    verdict = "more: copies" if copies(memory) else "no more, within the errors"
    return (
        f"Copies: {found['closer'].value:.1%} of the samples are nearer to a datum than that is to others, of the data "
        f"themselves {control.value:.1%}: {verdict}. {found['copied'].value:.1%} lie within a third of the way to the "
        "second nearest."
    )
