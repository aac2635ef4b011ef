"""The iteration as it is printed, n_{k+1} = n_k - eta_k (grad n_k)(m_k o n_k), m_k = grad log(rho_k/e^{-f}), n_0 = id.

Nothing is fitted: n_k is the composition of all fields so far, evaluated with k nested derivatives, at a cost that
grows exponentially in k. For a handful of steps, to hold fits against.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Field: TypeAlias = Callable[[Tensor], Tensor]

MOST = 8  # steps


def residual_map(fields: Sequence[Field], etas: Sequence[float], y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """n_K(y) after K = len(fields) steps (arXiv:2504.09279, Algorithms 1 and 2).

    Args:
        fields: m_k, functions of points of the target space, (n, d) -> (n, d), differentiable by autograd.
        etas: the step sizes.
        y: points of the reference, shape (n, d).

    Raises:
        ValueError: more than `MOST` steps, or not a step size for each field.
    """
    if len(fields) > MOST or len(fields) != len(etas):
        raise ValueError(f"{len(fields)} fields, {len(etas)} steps: give as many of both, at most {MOST}")

    def n(k: int, at: Tensor) -> Tensor:
        if k == 0:
            return at
        with torch.enable_grad():
            at = at if at.requires_grad else at.detach().requires_grad_(True)
            before = n(k - 1, at)
            m = fields[k - 1](before)
            # grad n_k is symmetric: a product from the left is one from the right
            (turned,) = torch.autograd.grad(before, at, m, create_graph=True)
            return before - etas[k - 1] * turned

    return n(len(fields), y).detach()
