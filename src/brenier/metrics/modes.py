"""Samples between modes: how many of them belong to no mode, or to several.

    mode mixture ratio   share of the samples to which a classifier gives two classes or more probability >= lambda

(DPM-OT, arXiv:2307.11308). It says something where classes are modes and the classifier is right and calibrated: where
it is too sure of itself, everything has one class. The same number for the data is what it is to be compared with.

lambda is 0.11, as in the paper, for any number of classes: it says how sure of one class is sure enough. For ten
classes or more it is above 1/classes, so that "no idea" is no mixture; for fewer, it is one.

For an explicit mixture sum_i p_i N(mu_i, S_i) the exact classifier is its posterior p_i N(x; mu_i, S_i)/p(x). But that
is as sure of a point far from all components as of any other: between two modes s wide and D apart, only a strip of
width 4 s^2/D belongs to both, and points strewn evenly along the way there are missed nearly all. So on a ring of
narrow modes the right number is another:

    stray                share of the samples outside every component's ellipsoid that holds 99.9% of its mass

of the mixture's own samples, 0.1% at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv
from torch import Tensor, nn

from brenier.core.points import Numbers, arrays_too, as_points, as_tensor
from brenier.core.reading.plain import check_unmasked
from brenier.laws.base import Target
from brenier.laws.components import Components
from brenier.metrics.estimates import Estimate, share
from brenier.metrics.features import apply

LAMBDA = 0.11
LEVEL = 0.999  # mass in an ellipsoid
_FOLDS = 5
_COMPONENTS = 64


@runtime_checkable
class Probabilistic(Protocol):
    """What scikit-learn's classifiers are."""

    def predict_proba(self, X: Any) -> Any:
        """Probabilities, one row for each row of X."""
        ...


Classifier: TypeAlias = nn.Module | Target | Probabilistic | Callable[[Tensor], Any]


@arrays_too(after="classifier")
def class_probabilities(classifier: Classifier, points: Tensor) -> Float[Tensor, "n classes"]:
    """What a classifier makes of points, in float64.

    Args:
        classifier: a torch module that returns logits of float32 rows; a law that is a mixture, whose components are
            the classes; what has `predict_proba`, as in scikit-learn; or a function that returns probabilities of
            float32 rows.
        points: shape (n, d).

    Raises:
        ValueError: points that are not finite, fewer than two classes, rows that are no probabilities, or a law whose
            components are not known.
    """
    x = as_points(points, "samples", dtype=torch.float64)
    if isinstance(classifier, Target):
        return _components(classifier, x).locate(x)[0]
    if isinstance(classifier, nn.Module):
        found = apply(classifier, x, "classifier").double().softmax(1)
    elif isinstance(classifier, Probabilistic):
        found = apply(lambda rows: torch.as_tensor(classifier.predict_proba(rows.cpu().numpy())), x, "classifier")
    else:
        found = apply(classifier, x, "classifier")
    return _check(found.double())


def _check(probabilities: Tensor) -> Float[Tensor, "n classes"]:
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        shape = tuple(probabilities.shape)
        raise ValueError(f"the classifier tells fewer than two classes apart: its probabilities have shape {shape}")
    off = (probabilities.sum(1) - 1).abs().max() if len(probabilities) else torch.zeros(())
    if bool((probabilities < 0).any()) or not float(off) < 1e-3:
        raise ValueError(
            "the classifier's rows are no probabilities, non-negative with sum 1: logits need a torch module"
        )
    return probabilities


def mode_mixture(probabilities: Numbers, threshold: float = LAMBDA) -> Estimate:
    """The mode mixture ratio, with Wilson's interval.

    Args:
        probabilities: see `class_probabilities`, shape (n, classes).
        threshold: lambda, in (0, 1/2]: more than that cannot be given to two classes.

    Raises:
        ValueError: no samples, rows that are no probabilities, or a threshold that is none.
    """
    if not 0 < threshold <= 0.5:
        raise ValueError(f"lambda must lie in (0, 0.5], since two classes share 1, got {threshold}")
    p = as_tensor(probabilities, "probabilities")
    if len(p) == 0:
        raise ValueError("a mode mixture ratio needs at least one sample, and there is none")
    second = _check(p).topk(2, dim=1).values[:, 1]
    return share(float((second >= threshold).double().mean()), len(second))


def stray(samples: Numbers, mixture: Target, *, level: float = LEVEL) -> Estimate:
    """Share of the samples outside every component's ellipsoid of mass `level`, with Wilson's interval.

    Raises:
        ValueError: samples that do not fit the mixture, a component that is flat in some direction, a law whose
            components are not known.
    """
    x = as_points(samples, "samples", dtype=torch.float64)
    inside = _components(mixture, x).locate(x)[1] <= 2 * float(gammaincinv(mixture.dim / 2, level))  # chi-squared
    return share(float((~inside.any(1)).double().mean()), len(inside))


def _components(law: Target, x: Float[Tensor, "n d"]) -> Components:
    if law.components is None:
        raise ValueError(f"{law.name} is no mixture of components that are known: classes and modes are those of one")
    if x.shape[1] != law.dim:
        raise ValueError(f"samples have {x.shape[1]} numbers each, the mixture {law.dim}: give as many")
    return law.components


@dataclass(frozen=True)
class Fitted:
    """A classifier fitted to labelled data.

    Attributes:
        classes: the labels, in the order of the probabilities.
        model: a scikit-learn pipeline.
        held_out: probabilities of the data themselves, each row from a fit that did not see it, shape (n, classes).
        accuracy: share of the data that these get right.
    """

    classes: NDArray[Any]
    model: Any
    held_out: Float[Tensor, "n classes"]
    accuracy: float

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the classes, one row for each row of X."""
        return np.asarray(self.model.predict_proba(np.asarray(X, dtype=np.float64)))


@arrays_too()
def fit_classifier(points: Tensor, labels: ArrayLike | Sequence[Any], *, seed: int = 0) -> Fitted:
    """Multinomial logistic regression on at most 64 principal components of standardised coordinates.

    Its penalty is the one with the largest likelihood on folds left out, of five: that keeps its probabilities
    calibrated. It separates classes by hyperplanes; where they need more, give a classifier of your own.

    Args:
        points: shape (n, d).
        labels: n of them, numbers or text; at least 5 points of each.
        seed: of the folds.

    Raises:
        ValueError: another number of labels than points, a single class, fewer than 5 points of a class, labels that
            are missing.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = as_points(points, "reference", dtype=torch.float64, device="cpu").numpy()
    if isinstance(labels, np.ma.MaskedArray):
        check_unmasked(np.ma.getmaskarray(labels), "labels")
    given = np.asarray(labels)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (len(x),):
        raise ValueError(
            f"labels have shape {given.shape}, and there are {len(x)} points in the reference: one for each"
        )
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError("labels hold NaN or infinite values: every point needs a class")
    classes, which, counts = np.unique(given, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"all labels are {classes[0]}: a classifier needs two classes or more")
    if counts.min() < _FOLDS:
        rare = classes[counts.argmin()]
        few = int(counts.min())
        raise ValueError(f"only {few} of the points are labelled {rare}: a class needs at least {_FOLDS}, one per fold")
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    components = min(_COMPONENTS, x.shape[1], len(x) - len(x) // _FOLDS - 1)
    pipeline = make_pipeline(StandardScaler(), PCA(components, random_state=seed), LogisticRegression(max_iter=2000))
    strengths = {"logisticregression__C": [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]}
    search = GridSearchCV(pipeline, strengths, scoring="neg_log_loss", cv=folds).fit(x, which)
    held_out = np.asarray(cross_val_predict(search.best_estimator_, x, which, cv=folds, method="predict_proba"))
    accuracy = float(np.mean(held_out.argmax(1) == which))
    return Fitted(classes, search.best_estimator_, torch.from_numpy(held_out), accuracy)
