"""A training run on disk: what it writes, and what a resumed one reads. `brenier.networks.saved` says what is where.

Every file is written under a temporary name and renamed. The state comes first and holds all that the others are made
from, so a run that is killed at any moment leaves a whole state behind, that of this checkpoint or of the last.
"""

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from brenier.core.reading.files import exists
from brenier.core.writing import atomic_path
from brenier.networks.saved import CONFIG, FORMAT, MODEL, VERSION, read_tensors

STATE = "state.safetensors"
HISTORY = "history.csv"


def read_state(folder: Path) -> dict[str, Tensor] | None:
    """All that a resumed run needs; None where the run was stopped before its first checkpoint."""
    return read_tensors(folder / STATE) if exists(folder / STATE) else None


def read_progress(folder: str | os.PathLike[str]) -> tuple[int, int | None]:
    """Steps that a run has done, and those that it was to do; None where they were not planned yet.

    Raises:
        ValueError: there is no checkpoint, or it is damaged.
    """
    state = read_tensors(Path(folder) / STATE)
    try:
        done, steps = int(state["step"]), int(state["steps"])
    except KeyError as error:
        raise ValueError(f"{str(Path(folder) / STATE)!r} is damaged: it holds no {error.args[0]!r}") from None
    return done, None if steps < 0 else steps


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Begin a checkpoint: the config, and nothing left of a run before."""
    for name in (STATE, MODEL, HISTORY):
        (folder / name).unlink(missing_ok=True)
    head = {"format": FORMAT, "version": VERSION}
    with atomic_path(folder / CONFIG, force=True) as draft:
        draft.write_text(json.dumps(head | config, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_checkpoint(folder: Path, state: dict[str, Tensor], model: dict[str, Tensor], history: str) -> None:
    """Save the state, then what is made from it. The same numbers make the same bytes."""
    from safetensors.torch import save

    for name, tensors in ((STATE, state), (MODEL, model)):
        with atomic_path(folder / name, force=True) as draft:
            draft.write_bytes(save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}))
    with atomic_path(folder / HISTORY, force=True) as draft:
        draft.write_text(history, encoding="utf-8")
