"""The classifier of handwritten digits that comes along: three convolutions, 12,250 weights.

It was trained by `train_digits_classifier(seed=0)` on 1,150 of scikit-learn's 1,797 digits, in the scale of the
built-in target "digits" (pixels k/8 - 1), with noise of deviation 0.1 added; its logits were then divided by the one
temperature that makes 287 others most likely. On the 360 that it never saw (`digits_split`) it errs once: 99.7% (with
another seed 99.4%).

    python -c "from brenier.metrics.digits import train_digits_classifier, save; save(train_digits_classifier())"

makes it anew, in ten seconds.
"""

import math
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

_FILE = "digits-classifier.safetensors"
_EPOCHS, _BATCH, _RATE, _DECAY, _NOISE = 80, 64, 3e-3, 1e-2, 0.1


class DigitsClassifier(nn.Module):
    """Logits of the ten digits for images of 8 x 8 pixels in [-1, 1], as rows (n, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)),
            nn.Linear(512, 10),
        )
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: Float[Tensor, "n 64"]) -> Float[Tensor, "n 10"]:
        """Logits."""
        return self.layers(x) / self.temperature


def digits_split() -> tuple[Float[Tensor, "n 64"], Int[Tensor, " n"], list[Int[Tensor, " m"]]]:
    """The digits, their labels, and the rows for training, for the temperature, and held out: 1150, 287 and 360."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = torch.from_numpy(np.asarray(digits.data, dtype=np.float32) / 8 - 1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    return images, torch.from_numpy(np.asarray(digits.target, dtype=np.int64)), list(order.split([1150, 287, 360]))


def load_digits_classifier() -> DigitsClassifier:
    """The one that comes along, on the CPU, in evaluation mode."""
    from safetensors.torch import load

    classifier = DigitsClassifier()
    classifier.load_state_dict(load((resources.files("brenier") / "resources" / _FILE).read_bytes()))
    return classifier.eval().requires_grad_(False)


def train_digits_classifier(seed: int = 0, epochs: int = _EPOCHS) -> DigitsClassifier:
    """Train it: AdamW, cosine decay, noise on the images; the temperature by likelihood on rows of their own."""
    images, labels, (rows, others, _) = digits_split()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initial weights and dropout come from the global generator, which is put back after
        classifier = DigitsClassifier()
        optimiser = torch.optim.AdamW(classifier.parameters(), lr=_RATE, weight_decay=_DECAY)
        orders = [torch.randperm(len(rows), generator=generator) for _ in range(epochs)]
        batches = [batch for order in orders for batch in rows[order].split(_BATCH)]
        for step, batch in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = _RATE * (1 + math.cos(math.pi * step / len(batches))) / 2
            noise = torch.randn((len(batch), 64), generator=generator)
            optimiser.zero_grad()
            cross_entropy(classifier(images[batch] + _NOISE * noise), labels[batch]).backward()
            optimiser.step()
    classifier.eval().requires_grad_(False)
    logits, truth = classifier(images[others]).double(), labels[others]
    best: Any = minimize_scalar(lambda log: float(cross_entropy(logits / math.exp(log), truth)), (-1.0, 1.0))
    classifier.temperature.fill_(math.exp(best.x))
    return classifier


def save(classifier: DigitsClassifier, path: Path | None = None) -> None:
    """Write the weights to a file; by default, the one that comes along."""
    from safetensors.torch import save as to_bytes

    target = Path(__file__).parents[1] / "resources" / _FILE if path is None else path
    target.write_bytes(to_bytes(classifier.state_dict()))
