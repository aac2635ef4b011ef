"""Step sizes eta_k, k = 0 ... T - 1, of the parabolic Monge-Ampère iteration (arXiv:2504.09279).

constant     eta               KL of the averaged iterate O(1/T)
root         eta/sqrt(T)       last iterate O(1/sqrt T)
harmonic     eta/(k + 1)       last iterate O(log T/T)
log          eta log(T)/T      the same, for a T that is known beforehand
adaptive     eta, and over the last half of the steps down to eta/20: the noise of what is learned averages out
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from brenier.core.checks import whole_number

Rule: TypeAlias = Literal["constant", "root", "harmonic", "log", "adaptive", "growing"]
RULES: tuple[Rule, ...] = get_args(Rule)
GROWTH, MOST = 3.0, 1e4  # of "growing": from step to step, and in all
LAST = 0.05  # of the first step: the last of "adaptive"


def step_sizes(rule: str, eta: float, steps: int) -> list[float]:
    """eta_k for all k.

    Args:
        rule: one of `RULES`.
        eta: its constant, positive.
        steps: T.

    Raises:
        ValueError: an unknown rule, eta or T out of range.
    """
    if rule not in RULES:
        raise ValueError(f"no step rule {rule!r}: it is one of {', '.join(RULES)}")
    if not 0 < eta < math.inf:
        raise ValueError(f"eta must be positive and finite, got {eta}")
    steps = whole_number(steps, "steps", 0)
    sizes: dict[str, Callable[[int], float]] = {
        "constant": lambda k: eta,
        "root": lambda k: eta / math.sqrt(steps),
        "harmonic": lambda k: eta / (k + 1),
        "log": lambda k: eta * math.log(max(steps, 2)) / steps,
        "adaptive": lambda k: eta * min(1.0, LAST + (1 - LAST) * 2 * (steps - k) / steps),
        "growing": lambda k: eta * min(GROWTH ** min(k, 30), MOST),
    }
    return [sizes[rule](k) for k in range(steps)]
