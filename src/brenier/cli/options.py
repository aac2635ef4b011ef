"""What commands share: each option once, with one name, one unit and one meaning; and the law that they name."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    import torch

    from brenier.laws.base import Target

LawName: TypeAlias = Annotated[
    str, typer.Argument(metavar="LAW", help="A law, data, images or a network: see `brenier laws`.")
]
Data: TypeAlias = Annotated[
    str | None, typer.Option(metavar="DATA", help="Take these data for a network's own law, not its samples.")
]

# Noise levels
Snrs: TypeAlias = Annotated[str | None, typer.Option("--snr", metavar="R,R,...", help="SNRs, instead of a grid.")]
Sigmas: TypeAlias = Annotated[
    str | None, typer.Option("--sigma", metavar="S,S,...", help="Noise levels sigma = 1/SNR, instead of SNRs.")
]
SnrMin: TypeAlias = Annotated[float | None, typer.Option(help="Smallest SNR of the grid (default: from the law).")]
SnrMax: TypeAlias = Annotated[float | None, typer.Option(help="Largest SNR of the grid (default: from the law).")]
SigmaMax: TypeAlias = Annotated[float | None, typer.Option(help="Noise level to start from (default: from the law).")]
SigmaMin: TypeAlias = Annotated[float | None, typer.Option(help="Noise level to end at (default: 0).")]
Beta: TypeAlias = Annotated[float, typer.Option(help="Inverse temperature of the diffusion.")]
Perturbation: TypeAlias = Annotated[str, typer.Option(metavar="M,M,...", help="Richness of perturbations.")]

# The computation
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]
Device: TypeAlias = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")]
Dtype: TypeAlias = Annotated[Literal["float32", "float64"] | None, typer.Option(help="Precision of the computation.")]
MaxMemory: TypeAlias = Annotated[float | None, typer.Option(metavar="GIB", help="Memory for blocks of work, in GiB.")]
Pilots: TypeAlias = Annotated[int, typer.Option(help="Trajectories that plans and predictions are made from.")]
Number: TypeAlias = Annotated[int, typer.Option("--number", "-n", help="How many.")]
Batch: TypeAlias = Annotated[int | None, typer.Option(help="Points per call of the denoiser.")]
Minutes: TypeAlias = Annotated[float | None, typer.Option(help="After which a fit stops, too.")]


def _silence(quiet: bool) -> bool:
    """Leave warnings out, too, while the command runs: `main` takes that back."""
    if quiet:
        warnings.simplefilter("ignore")
    return quiet


# What is written
Samples: TypeAlias = Annotated[
    Path, typer.Option("--output", "-o", help="Save the samples (.npy), (n, *shape of a point).")
]
SavedMap: TypeAlias = Annotated[Path, typer.Option("--output", "-o", help="Save the map (.nc).")]
Dataset: TypeAlias = Annotated[Path | None, typer.Option("--output", "-o", help="Save the result (.nc, netCDF).")]
Figure: TypeAlias = Annotated[Path | None, typer.Option(help="Save a figure (.png, .pdf or .svg).")]
Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", callback=_silence, help="Print nothing but errors.")]


def open_law(name: str, data: str | None = None, device: str | None = None, dtype: str | None = None) -> "Target":
    """The law that the arguments of a command name."""
    from brenier import load_target

    return load_target(name, data=data, device=device, dtype=torch_dtype(dtype))


def torch_dtype(name: str | None) -> "torch.dtype | None":
    """The dtype of this name."""
    import torch

    return None if name is None else getattr(torch, name)
