"""One process, or several that `accelerate launch` started: each trains on its share of every batch."""

import os
from typing import Any

import torch
from torch import Tensor, nn

from brenier.core.extras import library


class Workers:
    """What training needs to know of the other processes; for a single one, next to nothing.

    Attributes:
        count, rank: the number of processes, and which of them this is; the one of rank 0 writes files.
        device: where this process computes.

    Raises:
        ValueError: several processes were started, and accelerate is not installed or cannot use the device.
    """

    def __init__(self, device: torch.device | None) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0
        self._accelerator: Any = None
        if self.count > 1:
            accelerate = library("accelerate", "multi-gpu", f"several processes (WORLD_SIZE is {self.count})")
            on_cpu = device is not None and device.type == "cpu"
            self._accelerator = accelerate.Accelerator(cpu=on_cpu) if on_cpu else accelerate.Accelerator()
            self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index
            self.device = self._accelerator.device
        else:
            self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def main(self) -> bool:
        """Whether this process writes the files and shows progress."""
        return self.rank == 0

    def share(self, module: nn.Module) -> nn.Module:
        """The module, with its gradients averaged over the processes."""
        return module if self._accelerator is None else self._accelerator.prepare_model(module)

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes."""
        return values if self._accelerator is None else self._accelerator.reduce(values, "sum")

    def agree(self, number: int) -> int:
        """What the main process says."""
        if self._accelerator is None:
            return number
        from accelerate.utils import broadcast

        return int(broadcast(torch.tensor([number], device=self.device))[0])

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
