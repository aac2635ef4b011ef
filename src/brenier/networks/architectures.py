"""Networks that denoise or flow: preconditioning around a residual MLP (vectors) or a U-Net (images).

With x = X + sigma Z, s the data's deviation per coordinate and c its mean (Karras et al., arXiv:2206.00364, Table 1),

    D(x; sigma) = c + s^2/(s^2 + sigma^2) (x - c) + sigma s/sqrt(s^2 + sigma^2) F((x - c)/sqrt(s^2 + sigma^2); t),
    t = log(sigma/s)/4,

so that what F is given, and what it has to return, has unit size at every noise level. Nothing else knows the unit of
the data: rescaled data train the same F, and what F = 0 leaves is the best linear denoiser of isotropic data.

A flow goes the other way, along x = (1 - t) Z + t X from noise at t = 0 to data at t = 1, and has the velocity

    v(x; t) = c + (s^2 t - (1 - t))/q^2 (x - t c) + s/q F((x - t c)/q; a),    q^2 = (1 - t)^2 + (s t)^2,

with the angle a of (1 - t, s t). That is the same preconditioning, since v = (D(x/t; (1 - t)/t) - x)/(1 - t), but for
what F is told: an angle, from 0 to pi/2, has a value at both ends. What F = 0 leaves is E[X - Z | x] of isotropic data.

Everything here may be differentiated in reverse mode, and that once more; the MLP in forward mode too (torch's group
norm, in the U-Net, is not made for it).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from brenier.core.extras import library

EMBEDDING = 64  # numbers that tell an MLP the noise level
FREQUENCIES = 16
STEPS_PER_UNIT = 100.0  # diffusers' time embedding resolves steps of 1
SMALLEST_IMAGE = 16  # a U-Net halves the sides of an image more than once: below this the MLP is at least as good
COLOURS = 4
GROUPS = 8


class Mlp(nn.Module):
    """A residual network for vectors: `depth` blocks of two layers, modulated by the noise level.

    Block: h <- h + W_2 silu(W_1 ((1 + a) norm(h) + b)), with a and b linear in an embedding of t. The last layer starts
    at zero: before training F = 0.

    Args:
        event_shape: shape of one point; it is flattened inside.
        width: size of the hidden layers.
        depth: number of blocks.
        classes: of points, which it is told: a vector for each is added to the embedding. 0: none.
    """

    def __init__(self, event_shape: Sequence[int], width: int = 128, depth: int = 4, classes: int = 0) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        dim = math.prod(self.event_shape)
        # Frequencies from a slow drift over all noise levels to features an eighth of a unit of t wide.
        self.register_buffer("frequencies", torch.logspace(-1, 1, FREQUENCIES, 2.0) * math.pi, persistent=False)
        self.embedding = nn.Sequential(nn.Linear(2 * FREQUENCIES, EMBEDDING), nn.SiLU())
        self.enter = nn.Linear(dim, width)
        self.blocks = nn.ModuleList([_Block(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.labels = nn.Embedding(classes, EMBEDDING) if classes else None

    def forward(
        self,
        x: Float[Tensor, "n *shape"],
        t: Float[Tensor, " n"],
        class_labels: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n *shape"]:
        """F(x; t), of the shape of x; told the class of each point, from 0, where there are classes."""
        phase = t[:, None] * self.get_buffer("frequencies")
        embedding = self.embedding(torch.cat([phase.sin(), phase.cos()], 1))
        if self.labels is not None:
            embedding = embedding + self.labels(_asked(class_labels))
        hidden = self.enter(x.reshape(len(x), -1))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return self.leave(self.norm(hidden)).reshape(x.shape)


class _Block(nn.Module):
    """h + W_2 silu(W_1 ((1 + a) norm(h) + b)); the second layer starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(EMBEDDING, 2 * width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, hidden: Float[Tensor, "n w"], embedding: Float[Tensor, "n e"]) -> Float[Tensor, "n w"]:
        scale, shift = self.modulation(embedding).chunk(2, 1)
        modulated = self.norm(hidden) * (1 + scale) + shift
        return hidden + self.second(nn.functional.silu(self.first(modulated)))


class UNet(nn.Module):
    """diffusers' `UNet2DModel` for images of shape (h, w) or (c, h, w), of any size.

    Sides that the network cannot halve are padded with zeros, and cut off again behind it. Self-attention acts on the
    smallest images only. The last layer starts at zero.

    Args:
        event_shape: (h, w) for grey images, or (c, h, w).
        channels: of the hidden images, multiples of 8; each entry but the first halves the sides.
        depth: residual layers per size.
        classes: of images, which it is told; 0: none.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        channels: Sequence[int] = (64, 128, 128),
        depth: int = 2,
        classes: int = 0,
    ) -> None:
        super().__init__()
        unet = library("diffusers.models.unets.unet_2d", "diffusers", "U-Nets").UNet2DModel
        self.event_shape = tuple(event_shape)
        height, width = self.event_shape[-2:]
        colours = 1 if len(self.event_shape) == 2 else self.event_shape[0]
        step = 2 ** (len(channels) - 1)
        self.padding = (-width % step, -height % step)
        self.inner: Any = unet(
            in_channels=colours,
            out_channels=colours,
            block_out_channels=tuple(channels),
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
            layers_per_block=depth,
            norm_num_groups=GROUPS,
            num_class_embeds=classes or None,
        )
        self.classes = classes
        nn.init.zeros_(self.inner.conv_out.weight)
        nn.init.zeros_(self.inner.conv_out.bias)

    def forward(
        self,
        x: Float[Tensor, "n *shape"],
        t: Float[Tensor, " n"],
        class_labels: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n *shape"]:
        """F(x; t), of the shape of x; told the class of each image, from 0, where there are classes."""
        labels = _asked(class_labels) if self.classes else None
        height, width = self.event_shape[-2:]
        images = x.reshape(len(x), -1, height, width)
        right, below = self.padding
        images = nn.functional.pad(images, (0, right, 0, below))
        (result,) = self.inner(images, STEPS_PER_UNIT * t, labels, return_dict=False)
        return result[..., :height, :width].reshape(x.shape)


def _asked(class_labels: Tensor | None) -> Tensor:
    if class_labels is None:
        raise ValueError("it has classes: give class_labels")
    return class_labels


class Preconditioned(nn.Module):
    """A network F that sees data of unit size around zero.

    Args:
        network: F(x, a), from (n, *event_shape) and (n,) to (n, *event_shape).
        centre: mean of the data, of their event shape, in their unit.
        sigma_data: root mean square deviation of a coordinate from the mean, in the unit of the data.
    """

    def __init__(self, network: nn.Module, centre: Float[Tensor, "*shape"], sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("centre", centre.detach().clone().float())
        self.register_buffer("sigma_data", torch.tensor(sigma_data, dtype=torch.float32))


class Denoiser(Preconditioned):
    """D(x; sigma), an estimate of E[X | X + sigma Z = x]: a network F behind EDM preconditioning."""

    def forward(
        self, x: Float[Tensor, "n *shape"], sigma: Float[Tensor, " n"], **condition: Any
    ) -> Float[Tensor, "n *shape"]:
        """Denoise x = X + sigma Z; sigma in the unit of the data. The network is told the condition."""
        deviation = self.get_buffer("sigma_data")
        sides = (len(x), *(1,) * (x.ndim - 1))
        ratio = sigma / deviation
        size = torch.sqrt(1 + ratio.square())
        away = x - self.get_buffer("centre")
        inner = self.network(away / (deviation * size).reshape(sides), ratio.log() / 4, **condition)
        skip, out = (1 / size.square()).reshape(sides), (sigma / size).reshape(sides)
        return self.get_buffer("centre") + skip * away + out * inner.to(x.dtype)


def weighted_loss(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "n *shape"],
    z: Float[Tensor, "n *shape"],
    sigma: Float[Tensor, " n"],
    sigma_data: Float[Tensor, ""],
) -> Float[Tensor, " n"]:
    """EDM's loss of D at x + sigma z: the mean over coordinates of ((D - x)/c_out)^2, c_out the factor of F.

    So it is the error of F itself, of unit size at every noise level.
    """
    sides = (len(x), *(1,) * (x.ndim - 1))
    out = (sigma / torch.sqrt(1 + (sigma / sigma_data).square())).reshape(sides)
    error = (denoise(x + sigma.reshape(sides) * z, sigma) - x) / out
    return error.square().flatten(1).mean(1)


class Velocity(Preconditioned):
    """v(x; t), of a flow from N(0, I) at t = 0 to data at t = 1: a network F, preconditioned."""

    def forward(
        self, x: Float[Tensor, "n *shape"], t: Float[Tensor, " n"], **condition: Any
    ) -> Float[Tensor, "n *shape"]:
        """The velocity at x = (1 - t) Z + t X, in the unit of the data. The network is told the condition."""
        deviation, centre = self.get_buffer("sigma_data"), self.get_buffer("centre")
        sides = (len(x), *(1,) * (x.ndim - 1))
        noise, signal = 1 - t, deviation * t
        size = torch.hypot(noise, signal)
        away = x - t.reshape(sides) * centre
        inner = self.network(away / size.reshape(sides), torch.atan2(signal, noise), **condition)
        slope, out = (deviation * signal - noise) / size.square(), deviation / size
        return centre + slope.reshape(sides) * away + out.reshape(sides) * inner.to(x.dtype)


def flow_loss(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "n *shape"],
    y: Float[Tensor, "n *shape"],
    t: Float[Tensor, " n"],
    sigma_data: Float[Tensor, ""],
) -> Float[Tensor, " n"]:
    """The error of F in the velocity of a flow at (1 - t) x + t y: the mean over coordinates of (q/s (v - (y - x)))^2.

    Averaged over angles that are even between 0 and pi/2 it is 2/(pi s) times the mean of (v - (y - x))^2 over even t:
    dt = q^2/s da.
    """
    sides = (len(x), *(1,) * (x.ndim - 1))
    place = t.reshape(sides)
    out = (sigma_data / torch.hypot(1 - t, sigma_data * t)).reshape(sides)
    error = (velocity((1 - place) * x + place * y, t) - (y - x)) / out
    return error.square().flatten(1).mean(1)


def default_kind(event_shape: Sequence[int]) -> str:
    """Which network suits points of this shape: "unet" for images, "mlp" for all else.

    An image has the shape (h, w), or (c, h, w) with at most `COLOURS` channels, and `SMALLEST_IMAGE` pixels a side or
    more.
    """
    image = len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[0] <= COLOURS)
    return "unet" if image and min(event_shape[-2:]) >= SMALLEST_IMAGE else "mlp"


def build(architecture: dict[str, Any], event_shape: Sequence[int]) -> nn.Module:
    """The network F that a checkpoint's "network" entry describes: its "kind", and the arguments of that class."""
    options = {name: value for name, value in architecture.items() if name != "kind"}
    return {"mlp": Mlp, "unet": UNet}[architecture["kind"]](event_shape, **options)
