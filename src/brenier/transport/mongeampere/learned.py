"""Learning log(rho_k/e^{-f}) from samples.

*Classified* (arXiv:2504.09279, Algorithm 1). The target is known by points. h is the logit of a classifier between
them, label 0, and as many points of rho_k, label 1: where it minimises the logistic loss, logit = log(rho_k/e^{-f}).

*Matched* (Algorithm 2). f is known, grad log rho_k is learned by denoising score matching: the network s that minimises
E|s(T(y) + e z) + z/e|^2, z ~ N(0, I), is the score of rho_k smoothed by e (Vincent, Neural Computation 23, 2011). z and
-z are taken together: at small e most of the noise in the loss cancels. Then grad h = s + grad f.

The classifier sees points with noise N(0, e^2 I) added to both sides: h is then the log-ratio of two smoothed laws,
which is 0 where the laws agree, and bounded and informative also where their supports do not meet. Both learners begin
with much noise and come down to little.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from brenier.transport.mongeampere.discrepancy import Discrepancy, Measured, NotFinite
from brenier.transport.mongeampere.marginal import Marginal
from brenier.transport.mongeampere.potentials import Potential
from brenier.transport.mongeampere.rules import LAST

BINS = 10  # of predicted probabilities, in the calibration of the classifier
RATE = 2e-3  # of Adam: the noise of what is learned ends in the map, where it is not brought down in the end
EARLY = 0.5  # noise at the first step
POOL = 12  # batches of fresh points of rho_k in a step, which batches are drawn from
FIRST = 5  # times as long as later: the training before the first step


@dataclass(frozen=True)
class Training:
    """How a network keeps learning from step to step. The laws are standardised.

    Attributes:
        noise: standard deviation that the added noise comes down to.
        steps: of the flow.
        width: of the network's layers.
        rounds: gradient steps per step of the flow.
        batch: points of each law in a gradient step.
        seed: of the network's weights.
    """

    noise: float = 0.1
    steps: int = 200
    width: int = 128
    rounds: int = 60
    batch: int = 1024
    seed: int = 0


DEFAULT = Training()


class _Learner(Discrepancy):
    """A network that keeps learning.

    Args:
        reference: whose points are pushed.
        target: the law to come to.
        training: how.
        outputs: numbers that the network puts out.
    """

    exact = False

    def __init__(self, reference: Marginal, target: Marginal, training: Training, outputs: int) -> None:
        if reference.draw is None:
            raise ValueError(f"{reference.name} cannot be sampled, and a flow starts from samples")
        self.reference, self.target, self.training = reference, target, training
        self.begun, self.noise = False, max(training.noise, EARLY)
        generator = torch.Generator().manual_seed(training.seed)
        self.network = _network(target.dim, outputs, training.width, generator)
        self._optimizer = torch.optim.Adam(self.network.parameters(), RATE)

    def smooth(self, k: int) -> None:
        """Set the noise for step k, which falls over the first half of the steps, and the rate, over the second."""
        least, steps = self.training.noise, self.training.steps
        self.noise = max(least, EARLY * min(1.0, least / EARLY) ** min(1.0, 2 * k / steps))
        for group in self._optimizer.param_groups:
            group["lr"] = RATE * min(1.0, max(LAST, 2 * (steps - k) / steps))

    def pushed(self, potential: Potential, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """n fresh points of rho_k."""
        with torch.no_grad():
            return potential.gradient(self.reference.drawn(n, generator))

    def output(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """What the network says of points of the target space."""
        return self.network(x.float())

    def learn(self, potential: Potential, generator: torch.Generator) -> float:
        """Train on fresh points of rho_k; the mean loss of the last half of the rounds."""
        rounds, batch = self.training.rounds * (1 if self.begun else FIRST), self.training.batch
        self.begun, losses = True, list[float]()
        with torch.enable_grad():
            pool = self.pushed(potential, POOL * batch, generator)
            for _ in range(rounds):
                part = torch.randint(len(pool), (batch,), generator=generator)
                loss = self.loss(pool[part], generator)
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                losses.append(float(loss.detach()))
        late = losses[len(losses) // 2 :]
        return math.fsum(late) / len(late)

    def loss(self, pushed: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, ""]:
        """On points of rho_k."""
        raise NotImplementedError

    def smoothed(self, x: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, "n d"]:
        """x with noise added, in float32."""
        return x.float() + self.noise * torch.randn(x.shape, generator=generator)


class Classified(_Learner):
    """h as the logit of a classifier (Algorithm 1)."""

    def __init__(self, reference: Marginal, target: Marginal, training: Training = DEFAULT, bound: float = 3.0) -> None:
        """`bound`: h is led through bound tanh(h/bound): further apart than that, no classifier knows by how much."""
        if target.draw is None:
            raise ValueError(f"{target.name} has no points to learn from: give data, or use its density")
        super().__init__(reference, target, training, 1)
        self.bound = bound

    def loss(self, pushed: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of what is learned, on points of rho_k."""
        real = self.smoothed(self.target.drawn(len(pushed), generator), generator)
        return (
            softplus(self.output(real)).mean() + softplus(-self.output(self.smoothed(pushed, generator))).mean()
        ) / 2

    def measure(self, potential: Potential, y: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Measured:
        """h at T(y), and its gradient in y."""
        self.smooth(k)
        loss = self.learn(potential, generator)
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            pushed = potential.gradient(y)
            raw = self.output(pushed)[:, 0].double()
            value = self.bound * torch.tanh(raw / self.bound)
            (gradient,) = torch.autograd.grad(value.sum(), y)
        return Measured(gradient, value.detach(), {"loss": loss} | self._judged(pushed.detach(), generator))

    def _judged(self, x: Float[Tensor, "n d"], generator: torch.Generator) -> dict[str, float]:
        """Divergences of the smoothed laws, and how far predicted probabilities are from observed shares."""
        with torch.no_grad():
            real = self.output(self.smoothed(self.target.drawn(len(x), generator), generator))[:, 0].double()
            pushed = self.output(self.smoothed(x, generator))[:, 0].double()
        p = torch.sigmoid(torch.cat([real, pushed]))
        label = torch.cat([torch.zeros_like(real), torch.ones_like(pushed)])
        place = (p * BINS).long().clamp(max=BINS - 1)
        off = torch.zeros(BINS, dtype=p.dtype).index_add_(0, place, p - label)
        error = float(pushed.std() / max(len(pushed), 1) ** 0.5)
        return {
            "kl": float(pushed.mean()),
            "kl_se": error,
            "reverse_kl": -float(real.mean()),
            "calibration": float(off.abs().sum()) / len(p),
        }


class Matched(_Learner):
    """grad log rho_k by denoising score matching, grad f from the density (Algorithm 2)."""

    def __init__(self, reference: Marginal, target: Marginal, training: Training = DEFAULT) -> None:
        if target.log_density is None:
            raise ValueError(f"{target.name} has no density, and score matching learns only that of the samples")
        super().__init__(reference, target, training, target.dim)

    def score(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """grad log rho_k at x."""
        return self.output(x).double()

    def loss(self, pushed: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of what is learned, on points of rho_k."""
        z = torch.randn(pushed.shape, generator=generator)
        step, x = self.noise, pushed.float()
        there, back = self.output(x + step * z), self.output(x - step * z)
        # |s + z/e|^2 without |z/e|^2, for z and -z
        return ((there.square() + back.square()).sum(1) / 2 + ((there - back) * z).sum(1) / self.noise).mean()

    def measure(self, potential: Potential, y: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Measured:
        """h at T(y), and its gradient in y."""
        self.smooth(k)
        loss = self.learn(potential, generator)
        with torch.no_grad():
            x, hessian = potential.gradient(y), potential.hessian(y)
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            density = self.target.log_at(x)
            (slope,) = torch.autograd.grad(density.sum(), x)
        if not bool(torch.isfinite(slope).all()):
            raise NotFinite(f"the gradient of the log density of {self.target.name} is not finite on the samples")
        with torch.no_grad():
            m = self.score(x) - slope
        return Measured(torch.einsum("nij,nj->ni", hessian, m), None, {"loss": loss})


def _network(inputs: int, outputs: int, width: int, generator: torch.Generator) -> nn.Sequential:
    """Two hidden layers; the last starts at 0. Weights come from the generator, no global state is touched."""
    layers: list[nn.Module] = []
    sizes = (inputs, width, width, outputs)
    for k, (before, after) in enumerate(pairwise(sizes)):
        layer = nn.Linear(before, after, device="meta").to_empty(device="cpu")
        bound = math.sqrt(3 / before) if k < len(sizes) - 2 else 0.0
        with torch.no_grad():
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()
        layers += [layer, nn.SiLU()]
    return nn.Sequential(*layers[:-1])
