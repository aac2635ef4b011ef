"""Which atoms matter to a posterior: what each of them holds of its mass and of its second moment."""

import torch
from jaxtyping import Float
from torch import Tensor


def least_stake(stake: Float[Tensor, "n N"], lost: float) -> Float[Tensor, " n"]:
    """The largest stake, up to a factor of four, below which atoms may be left out: they have at most `lost` of it."""
    least = torch.full_like(stake[:, 0], lost / stake.shape[1])  # all below it are no more than that
    for _ in range(12):
        more = (stake * (stake < 4 * least[:, None])).sum(1) <= lost
        if not bool(more.any()):
            break
        least = torch.where(more, 4 * least, least)
    return least


def stakes(weights: Float[Tensor, "n N"], distances: Tensor) -> tuple[Float[Tensor, "n N"], Float[Tensor, " n"]]:
    """Of the mass and of the second moment, what each atom holds, and how large that moment is.

    It is about x; where an atom x_0 has most of the mass, about that, |x_i - x_0|^2 <= 2 (|x_i - x|^2 + |x_0 - x|^2):
    about x nearly all may then be that atom's own, and no others would matter.
    """
    top, place = weights.max(1, keepdim=True)
    alone = top > 0.5
    stake = weights * (distances + distances.expand_as(weights).gather(1, place) * alone)
    stake.scatter_(1, place, stake.gather(1, place) * ~alone)
    moment = stake.sum(1, keepdim=True, dtype=torch.float64)
    stake /= moment.to(stake).clamp_min(torch.finfo(stake.dtype).tiny)
    return stake.add_(weights), (moment * (1 + alone.double()))[:, 0]
