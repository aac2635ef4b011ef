"""What drives a flow, and what fits its potentials: `Discrepancy` and `Fit` by the names that users give."""

from typing import Literal, TypeAlias, get_args

from brenier.transport.mongeampere.discrepancy import Discrepancy, Exact
from brenier.transport.mongeampere.fits import FeatureFit, Fit, ImplicitFit, NetworkFit, bumps
from brenier.transport.mongeampere.learned import Classified, Matched, Training
from brenier.transport.mongeampere.marginal import Marginal

Method: TypeAlias = Literal["gaussian", "grid", "linear", "neural"]
METHODS: tuple[Method, ...] = get_args(Method)
Drive: TypeAlias = Literal["auto", "density", "classifier", "score"]


def find_drive(drive: str, method: str, reference: Marginal, target: Marginal) -> str:
    """What a flow between these laws is driven by: `drive`, where it is not "auto".

    Raises:
        ValueError: an unknown name; laws without what it needs.
    """
    if drive not in get_args(Drive):
        raise ValueError(f"no drive {drive!r}: it is one of {', '.join(get_args(Drive))}")
    if method in ("gaussian", "grid"):
        return "density"
    if drive == "auto":
        if target.log_density is None or (method == "neural" and target.draw is not None):
            return "classifier"
        return "score" if reference.log_density is None else "density"
    if drive != "classifier" and target.log_density is None:
        raise ValueError(f'{target.name} has no density, which drive "{drive}" needs: use "classifier"')
    if drive == "classifier" and target.draw is None:
        raise ValueError(f'{target.name} cannot be sampled, which drive "classifier" needs: use "density" or "score"')
    if drive == "density" and reference.log_density is None:
        raise ValueError(f'{reference.name} has no density, which drive "density" needs: use "score"')
    return drive


def make_discrepancy(
    drive: str, reference: Marginal, target: Marginal, training: Training, annealed: int = 0
) -> Discrepancy:
    """How h is measured; between densities the target may be annealed in so many steps."""
    if drive == "density":
        return Exact(reference, target, annealed)
    return (Classified if drive == "classifier" else Matched)(reference, target, training)


def make_fit(method: str, drive: str, target: Marginal, units: int, batch: int, seed: int) -> Fit:
    """How the next potential is found; with densities, linear fits take implicit steps."""
    if method == "neural":
        return NetworkFit(units, batch=batch)
    centres, width = bumps(target.dim, units, seed)
    if drive == "density" and target.log_density is not None:
        return ImplicitFit(centres, width, target.log_density)
    return FeatureFit(centres, width)
