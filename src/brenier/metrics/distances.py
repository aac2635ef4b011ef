"""Frechet and kernel distances between the features of samples and of a reference.

    Frechet   |m_x - m_y|^2 + tr[S_x + S_y - 2 (S_x S_y)^(1/2)]          (Heusel et al., arXiv:1706.08500)
    kernel    E k(x, x') + E k(y, y') - 2 E k(x, y),  k(x, y) = (<x, y>/d + 1)^3   (Binkowski et al., arXiv:1801.01401)

The first is W2^2 between the Gaussians of the same means and covariances. Finite samples make it too large: two times
n points of N(0, I) lie d(d + 1)/2n + 2d/n apart, 2.2 for d = 64 and n = 1,000 (on this bias: Chong, Forsyth,
arXiv:1911.07023). So it is to be compared between equal numbers of samples only, and is given here also without that
bias. The second has none, and may be negative. torchmetrics computes both; the errors are ours.
"""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brenier.core.points import Numbers, as_points
from brenier.distances.wasserstein import bures_jackknife, gelbrich
from brenier.metrics.estimates import Estimate, around, points_of

SUBSETS = 32
SUBSET = 1000  # points in one, at most
ENOUGH = 10  # samples per feature from which the bias is a correction


class _AsTheyAre(nn.Module):
    """Features that have been computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return x


def frechet_distance(samples: Numbers, reference: Numbers, *, seed: int = 0) -> tuple[Estimate, Estimate]:
    """The Frechet distance (a squared length, as usual), and the same without the bias of finite samples.

    The bias and the error come from a jackknife over 20 groups, which takes off what falls like 1/n: with ten samples
    per feature little is left of it, and with fewer the second number is to be preferred but not trusted.

    Args:
        samples: features, shape (n, k).
        reference: features, shape (m, k).
        seed: of the groups.

    Raises:
        ValueError: values that are not finite, shapes that do not fit, or no more than k points in one of the two:
            their covariance is singular, and the number says more of n than of the law.
    """
    x, y = points_of(samples, reference)
    k = x.shape[1]
    _check_enough(k, min(len(x), len(y)))
    from torchmetrics.image.fid import FrechetInceptionDistance

    centre = y.mean(0)  # torchmetrics takes E x x^T - m m^T, which cancels where the mean is large
    metric = FrechetInceptionDistance(feature=_AsTheyAre(k)).to(x.device)
    metric.update(x - centre, real=False)
    metric.update(y - centre, real=True)
    generator = torch.Generator().manual_seed(seed)  # its groups go by row, and rows may be sorted by class
    found = gelbrich(*(z[torch.randperm(len(z), generator=generator).to(z.device)] for z in (x, y)))
    plain = max(float(metric.compute()), 0.0)
    return around(plain, found.squared_se, least=0.0), around(found.squared, found.squared_se)


def frechet_of_moments(
    samples: Float[Tensor, "n k"],
    mean: Float[Tensor, " k"],
    covariance: Float[Tensor, "k k"],
    count: int,
    *,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    """The same from the moments of a reference of `count` points, many more than the samples: taken to be known.

    The jackknife is over the samples alone.

    Args:
        samples: features, shape (n, k).
        mean: of the reference, shape (k,).
        covariance: of the reference, shape (k, k).
        count: of its points.
        seed: of the groups.

    Raises:
        ValueError: no more than k points in one of the two.
    """
    x = as_points(samples, "samples", dtype=torch.float64)
    _check_enough(x.shape[1], min(len(x), count))
    y, there = mean.double().cpu().numpy(), covariance.double().cpu().numpy()
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)]
    plain, squared, error = bures_jackknife(x.cpu().numpy(), y, there)
    return around(max(plain, 0.0), error, least=0.0), around(squared, error)


def _check_enough(k: int, fewest: int) -> None:
    if fewest <= max(k, 2):
        what = "2 points" if k < 2 else f"{k} points, the number of features,"
        raise ValueError(
            f"a Frechet distance of {k} feature{'s' * (k > 1)} needs more than {what} on both sides, and says "
            f"something from {ENOUGH * k} on: there are {fewest}; give more, or fewer features (features='pca')"
        )


def kernel_distance(samples: Numbers, reference: Numbers, *, seed: int = 0) -> Estimate:
    """The kernel distance: unbiased squared maximum mean discrepancy, mean over 32 random subsets.

    A subset holds m = min(1000, n/2) points. Subsets overlap, so their spread s is that of subsets given the sample;
    the standard error is s sqrt(m/(n - m)), right for a mean over points and too large near 0, where the statistic
    falls off faster. The points are taken in the unit they come in: rescaled points have another distance.

    Args:
        samples: features, shape (n, k), n >= 4.
        reference: features, shape (m, k), m >= 4.
        seed: of the subsets.

    Raises:
        ValueError: values that are not finite, shapes that do not fit, too few points.
    """
    x, y = points_of(samples, reference, least=4, note=" for a kernel distance")
    fewest = min(len(x), len(y))
    size = min(SUBSET, fewest // 2)
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save", UserWarning)
        torch.manual_seed(seed)  # torchmetrics draws from the global generator, which is put back after
        metric = KernelInceptionDistance(feature=_AsTheyAre(x.shape[1]), subsets=SUBSETS, subset_size=size)
        metric.update(x, real=False)
        metric.update(y, real=True)
        mean, spread = metric.compute()
    return around(float(mean), float(spread) * math.sqrt(size / (fewest - size)))
