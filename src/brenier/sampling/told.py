"""Data by the classes that a network is asked for: row i of what it samples is of class i modulo their number.

An expressway to a class starts from noisy data of that class, wherever it takes them from: a latent of another would be
denoised into what it is not.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from brenier.core.points import as_labels
from brenier.laws.base import Target


@dataclass(frozen=True)
class Told:
    """Classes of data, and those that are asked for.

    Attributes:
        code: of each datum, among all classes in order, from 0, shape (N,).
        asked: the classes of rows in turn, shape (m,).
    """

    code: Int[Tensor, " N"]
    asked: Int[Tensor, " m"]

    @classmethod
    def of(cls, labels: Any, count: int, law: Target) -> Self:
        """From a label of each of `count` data, whole numbers or words: a network counts classes in their order.

        Raises:
            ValueError: labels of another number; the law is told no classes, or one of which there are no data.
        """
        classes, code = np.unique(as_labels(labels, count), return_inverse=True)
        asked = law.asked_classes
        if asked is None:
            raise ValueError(f"{law.name} is told no classes: leave labels out")
        if int(asked.max()) >= len(classes) or int(asked.min()) < 0:
            raise ValueError(
                f"{law.name} is asked for class {int(asked.max())} (counted from 0), and there are labels of "
                f"{len(classes)} classes: give those that it was trained with"
            )
        return cls(torch.from_numpy(code.ravel().astype(np.int64)), asked)

    def restricted(self) -> tuple[Int[Tensor, " k"], Self]:
        """The data of classes that are asked for, and their classes.

        Raises:
            ValueError: there is a class without data.
        """
        for kind in self.known:
            if len(self.rows(kind)) == 0:
                raise ValueError(f"there are no data of class {kind} (counted from 0): there is nothing to start from")
        rows = torch.nonzero(torch.isin(self.code, self.asked))[:, 0]
        return rows, type(self)(self.code[rows], self.asked)

    @property
    def known(self) -> list[int]:
        """The classes that are asked for, each once."""
        return self.asked.unique().tolist()

    def wanted(self, n: int) -> Int[Tensor, " n"]:
        """The class of each of n rows."""
        return self.asked[torch.arange(n) % len(self.asked)]

    def rows(self, kind: int) -> Int[Tensor, " k"]:
        """The data of a class."""
        return torch.nonzero(self.code == kind)[:, 0]

    def draw(self, n: int, weights: Float[Tensor, " N"], generator: torch.Generator) -> Int[Tensor, " n"]:
        """A random datum of its class for each of n rows, by weight.

        Raises:
            ValueError: a class without weight.
        """
        wanted, found = self.wanted(n), torch.empty(n, dtype=torch.long)
        for kind in self.known:
            own, at = self.rows(kind), torch.nonzero(wanted == kind)[:, 0]
            if not float(weights[own].sum()) > 0:
                raise ValueError(f"class {kind} (counted from 0) has no weight: there is nothing to start from")
            if len(at) > 0:
                found[at] = own[torch.multinomial(weights[own], len(at), replacement=True, generator=generator)]
        return found
