"""Laws that several benchmarks share."""

import numpy as np

import brenier


def ring() -> brenier.GaussianMixture:
    """Eight narrow components on a circle."""
    angle = np.arange(8) * np.pi / 4
    return brenier.GaussianMixture(np.ones(8), 4 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.04, name="ring")


def six() -> brenier.GaussianMixture:
    """Six components of unequal weight in 6 dimensions."""
    draw = np.random.default_rng(0)
    weights, means = [0.3, 0.25, 0.2, 0.15, 0.06, 0.04], 1.5 * draw.normal(size=(6, 6))
    return brenier.GaussianMixture(weights, means, draw.uniform(0.05, 1, (6, 6)) ** 2, name="six")


def uneven(dim: int = 8) -> brenier.GaussianMixture:
    """Eight components with weights from 0.5 to 0.003."""
    draw = np.random.default_rng(0)
    weights = [0.5, 0.25, 0.12, 0.06, 0.04, 0.02, 0.007, 0.003]
    means, deviations = 3 * draw.normal(size=(8, dim)), draw.uniform(0.05, 1, (8, dim))
    return brenier.GaussianMixture(weights, means, deviations**2, name="uneven" if dim == 8 else f"uneven-{dim}")


def digits(regularisation: float = 1e-2) -> brenier.GaussianMixture:
    """Twenty components fitted to scikit-learn's digits, d = 64."""
    from sklearn.datasets import load_digits
    from sklearn.mixture import GaussianMixture

    data = load_digits().data / 16
    found = GaussianMixture(20, random_state=0, reg_covar=regularisation).fit(data)
    name = f"digits-{regularisation:g}"
    return brenier.GaussianMixture(found.weights_, found.means_, found.covariances_, name=name)
