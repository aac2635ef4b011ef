"""A training run on disk: what it writes, and what a resumed one reads. `brenier.networks.saved` says what is where.

Every file is written under a temporary name and renamed. The state comes first and holds all that the others are made
from, so a run that is killed at any moment leaves a whole state behind, that of this checkpoint or of the last. Where a
run replaces another network, all files are written before the old ones go: killed in between, it leaves its config,
with which a resumed run begins again, and no config ever stands beside the weights of another run.
"""

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from brenier.core.reading.files import exists
from brenier.core.writing import atomic_path, atomic_paths
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
    with atomic_path(folder / CONFIG, force=True) as draft:
        _write_config(draft, config)
        _clear(folder)


def write_checkpoint(
    folder: Path,
    state: dict[str, Tensor],
    model: dict[str, Tensor],
    history: str,
    config: dict[str, Any] | None = None,
) -> None:
    """Save the state, then what is made from it. The same numbers make the same bytes.

    Args:
        folder: of the run.
        state: all that a resumed run needs.
        model: the averaged weights.
        history: the losses as CSV.
        config: of a run that replaces the network in the folder.
    """
    if config is not None:
        names = (CONFIG, STATE, MODEL, HISTORY)
        with atomic_paths(*(folder / name for name in names), force=True) as drafts:
            _write_config(drafts[0], config)
            _write(drafts[1], state)
            _write(drafts[2], model)
            drafts[3].write_text(history, encoding="utf-8")
            _clear(folder)
        return
    for name, tensors in ((STATE, state), (MODEL, model)):
        with atomic_path(folder / name, force=True) as draft:
            _write(draft, tensors)
    with atomic_path(folder / HISTORY, force=True) as draft:
        draft.write_text(history, encoding="utf-8")


def _write_config(draft: Path, config: dict[str, Any]) -> None:
    head = {"format": FORMAT, "version": VERSION}
    draft.write_text(json.dumps(head | config, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write(draft: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    draft.write_bytes(save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}))


def _clear(folder: Path) -> None:
    """Remove what another run has left."""
    for name in (STATE, MODEL, HISTORY):
        (folder / name).unlink(missing_ok=True)
