"""Samples against data by every metric at once, each with its error and, where there is one, with a control.

The control is what the same number would be for a perfect sampler: of distances and neighbourhoods, that of as many
training points, against a reference held out from them; of mode mixture, that of the reference; of memorisation, that
of held-out points or of training points among each other. Without it, none of these numbers means much.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brenier.catalog import LawLike, load_target
from brenier.core import records
from brenier.core.checks import whole_number
from brenier.core.points import as_labels, put_back
from brenier.core.work import progress_bar
from brenier.distances.wasserstein import debiased_w2, sliced_w2
from brenier.laws.alike import order_of, warn_of_scales
from brenier.laws.base import Target
from brenier.laws.blocked import BlockedEmpirical
from brenier.metrics.copying import Memorisation, memorisation
from brenier.metrics.digits import load_digits_classifier
from brenier.metrics.distances import frechet_distance, frechet_of_moments, kernel_distance
from brenier.metrics.estimates import Estimate, around, points_of
from brenier.metrics.features import Features, Moments, extract
from brenier.metrics.modes import LAMBDA, Classifier, class_probabilities, fit_classifier, mode_mixture, stray
from brenier.metrics.neighbours import MAX_MEMORY, NEIGHBOURS, precision_recall
from brenier.metrics.streams import memorisation_in_blocks, moments, rows_of_law, some_of
from brenier.sampling.comparison import EXACT, LINES
from brenier.sampling.sample import Samples

LEAST = 50  # samples: with fewer, a share of a half is known to no better than +- 0.14
PAIRS = 12  # closest pairs that are kept
CLOUD = 2000  # training points in the plane that are kept, to be seen around them
METRICS = {
    "frechet": "Frechet distance",
    "frechet_debiased": "Frechet distance without the bias of finite samples",
    "kernel": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "w2": "W2",
    "mmr": "mode mixture ratio",
    "stray": "share outside every component's 99.9% ellipsoid",
    "closer": "share closer to a training point than that is to others",
    "copied": "share at less than a third of the distance to the second nearest training point",
    "ratio": "nearest over second nearest training distance, median",
}
COLUMNS = (  # an `Estimate` each
    ("value", "value_se", "low", "high"),
    ("control", "control_se", "control_low", "control_high"),
)
Row: TypeAlias = tuple[Estimate, Estimate | None]
_NONE = Estimate(*[math.nan] * 4)


class _Read(NamedTuple):
    points: Float[Tensor, "n d"]
    law: Target | None  # None: samples
    from_data: bool
    event_shape: tuple[int, ...]
    name: str
    whole: BlockedEmpirical | None = None  # of which the points are some rows, where they are not all in memory
    numbers: NDArray[np.intp] | None = None  # of these rows

    @property
    def size(self) -> int:
        """How many points there are in all."""
        return len(self.points) if self.whole is None else len(self.whole)

    def rows(self, numbers: Int[Tensor, " k"], origin: Float[Tensor, " d"]) -> Float[Tensor, "k d"]:
        """Points by their numbers, less `origin`, where the others are."""
        if self.whole is None:
            return self.points[numbers]
        return put_back(rows_of_law(self.whole, numbers.cpu().numpy()), -origin.cpu())

    @property
    def has_shape(self) -> bool:
        """Whether points are more than a row of numbers."""
        return len(self.event_shape) > 1

    @property
    def origin(self) -> Float[Tensor, " d"]:
        """Where the points lie, if far from zero; else 0."""
        return self.points.new_zeros(self.points.shape[1]) if self.law is None else self.law.origin

    def less(self, origin: Float[Tensor, " d"]) -> Self:
        """The same points about it; as they are where they do not fit it, which is refused later."""
        fits = self.points.shape[1] == len(origin)
        return self._replace(points=put_back(self.points, -origin)) if fits else self

    def ordered_as(self, other: Self) -> Self:
        """The same points in the order of the other's, such as with channels first; and says where scales differ."""
        order = order_of(self.event_shape, other.event_shape, self.name, other.name)
        points = self.points if order is None else self.points[:, order]
        warn_of_scales(points, other.points, self.name, other.name)
        return self._replace(points=points, event_shape=self.event_shape if order is None else other.event_shape)


def evaluate(
    samples: Samples | LawLike,
    reference: LawLike,
    *,
    train: LawLike | None = None,
    classifier: Classifier | str | None = None,
    labels: ArrayLike | Sequence[Any] | None = None,
    features: Features = "raw",
    k: int = NEIGHBOURS,
    threshold: float = LAMBDA,
    seed: int = 0,
    max_memory: float | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Hold samples against data: distances, neighbourhoods, mode mixture and memorisation, with errors and controls.

    Args:
        samples: what `brenier.sample` returned, or what `load_target` takes: an array or a file of 50 points or more.
        reference: data, or what `load_target` takes; a law is sampled, as many points as there are samples. Best held
            out from `train`.
        train: what the sampler was trained on. Default: the reference, if that is data.
        classifier: for mode mixture, see `class_probabilities`; "digits" is the one that comes along. Default: the
            reference itself where it is a mixture, that of the digits where it is the built-in "digits", else none.
        labels: of the reference's points: fits a classifier to them, see `fit_classifier`. Of data in blocks all rows
            have one, and those that are drawn are fitted to.
        features: of distances and neighbourhoods, see `features.extract`. W2 and memorisation are those of the points.
        k: neighbours that make a neighbourhood.
        threshold: lambda of mode mixture.
        seed: of every random number.
        max_memory: GiB that a block of distances may take, default 0.25, and from which on files are used in blocks,
            default half of what is free. Of data in blocks all rows tell moments, principal components and neighbours,
            and 10,000 at random the rest, or as many as there are samples; see `metrics.streams`.
        progress: show a bar on stderr, where that is a terminal.

    Returns:
        Dataset over `metric`, see `METRICS`; W2 is debiased in up to 3 dimensions, in more sliced, times sqrt(d).

        - `value`, `value_se`, `low`, `high`: the number, its standard error, and a 95% interval.
        - `control`, `control_se`, `control_low`, `control_high`: for a perfect sampler; NaN where there is none.
        - `closeness` (sample), `control_closeness` (held): d1/d0, see `metrics.memorisation`.
        - `cloud` (place, coordinate): training points in the plane, to draw.
        - `pair_sample`, `pair_train`, `pair_distance`, `pair_closeness` (pair): rows and distances of closest pairs,
          and `pair_points` (pair, side, coordinate) themselves: a sample, then its nearest training point.

        Attributes hold what was compared with what, and how.

    Raises:
        ValueError: too few points, points that do not fit each other, a classifier or labels that do not fit.

    Warns:
        UserWarning: points were put in the reference's order (see `laws.alike`), or are on another scale.
    """
    seed, k = whole_number(seed, "seed", 0), whole_number(k, "k", 1)
    given = _read(samples, "samples", 0, seed, max_memory)
    data = _read(reference, "reference", len(given.points), seed + 1, max_memory)
    given = given.ordered_as(data)
    trained = data if train is None and data.from_data else None
    if train is not None:
        trained = _read(train, "train", len(given.points), seed + 2, max_memory)
        if not trained.from_data:
            raise ValueError(f"{trained.name} is a law, and train must be the points that the sampler was trained on")
        trained = trained.ordered_as(data if data.has_shape else given)
    origin = data.origin  # all that is computed is about it
    given, data, trained = given.less(origin), data.less(origin), None if trained is None else trained.less(origin)
    max_memory = MAX_MEMORY if max_memory is None else max_memory
    note = ": shares of fewer are uncertain by more than 0.14"
    x, y = points_of(given.points, data.points, least=LEAST, note=note)
    model, held = _classifier(classifier, labels, data, y, seed)
    with progress_bar(f"evaluating {given.name}", progress) as advance:
        found: dict[str, Row] = {}
        memory = None
        if trained is not None:
            held_out = None if train is None else y
            if trained.whole is None:
                memory = memorisation(x, trained.points, held_out=held_out, max_memory=max_memory)
            else:
                options: dict[str, Any] = {"held_out": held_out, "seed": seed, "max_memory": max_memory}
                memory = memorisation_in_blocks(x, trained.whole, origin, **options)
        advance(0.1)
        known = _moments_of(data, features, origin)
        seen, called = _features(x, y, features, origin, known)
        if known is not None and features == "pca":
            known = _projected(known, seen)
        rows = _against(x, y, seen, k, seed, max_memory, advance, known)
        control: dict[str, Estimate] = {}
        if memory is not None and trained is not None and memory.method == "held-out" and trained.size >= len(x):
            order = torch.randperm(trained.size, generator=torch.Generator().manual_seed(seed))
            some = trained.rows(order[: len(x)].to(trained.points.device), origin)
            perfect = points_of(some, y, ("train", "reference"))[0]
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # once is enough
                control = _against(perfect, y, seen, k, seed, max_memory, advance, known)
        found |= {name: (value, control.get(name)) for name, value in rows.items()}
        if model is not None:
            there = origin if labels is None else torch.zeros_like(origin)  # where the classifier was made
            of_data = class_probabilities(model, put_back(y, there)) if held is None else held
            of_samples = class_probabilities(model, put_back(x, there))
            found["mmr"] = mode_mixture(of_samples, threshold), mode_mixture(of_data, threshold)
        if isinstance(model, Target):
            found["stray"] = stray(put_back(x, origin), model), stray(put_back(y, origin), model)
        if memory is not None:
            of_control = memory.control.shares()
            found |= {name: (value, of_control[name]) for name, value in memory.samples.shares().items()}
    shape = data.event_shape if math.prod(data.event_shape) == x.shape[1] else given.event_shape
    result = _dataset(found)
    if memory is not None and trained is not None:
        result = result.merge(_pairs(memory, x, trained, origin))
    return records.describe(
        result,
        "evaluation",
        title=f"{given.name} against {data.name}",
        samples=given.name,
        reference=data.name,
        train="" if trained is None else trained.name,
        n=len(x),
        n_reference=len(y),
        n_train=0 if trained is None else trained.size,
        dim=x.shape[1],
        event_shape=list(shape),
        features=called,
        k=k,
        w2_method="debiased" if x.shape[1] <= EXACT else "sliced, times sqrt(d), a lower bound",
        classifier=_described(classifier, labels, model),
        memorisation_control="" if memory is None else memory.method,
        seed=seed,
    ).assign_attrs({"lambda": threshold} | ({} if data.whole is None else {"n_reference_in_blocks": data.size}))


def to_table(evaluation: xr.Dataset) -> dict[str, Any]:
    """An evaluation as JSON holds it: its attributes, each metric with its numbers, the closest pairs. NaN is null."""

    def plain(value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def numbers(row: xr.Dataset) -> dict[str, Any]:
        return {str(name): plain(values.to_numpy()[()]) for name, values in row.data_vars.items()}

    shown = evaluation.drop_vars(["closeness", "control_closeness", "pair_points", "cloud"], errors="ignore")
    table = shown.drop_dims("pair", errors="ignore")
    about = {str(name): plain(value) for name, value in evaluation.attrs.items()}
    metrics = {str(name): numbers(table.sel(metric=name)) for name in table["metric"].to_numpy()}
    pairs = shown.drop_dims("metric")
    return about | {
        "metrics": metrics,
        "closest_pairs": [
            {name.removeprefix("pair_"): value for name, value in numbers(pairs.isel(pair=row)).items()}
            for row in range(pairs.sizes.get("pair", 0))
        ],
    }


def _read(source: Samples | LawLike, name: str, n: int, seed: int, max_memory: float | None) -> _Read:
    """Points: those of data, some of data in blocks, n of any other law."""
    if isinstance(source, Samples):
        return _Read(source.points, None, True, source.event_shape, name)
    law = load_target(source, blocks=True, max_memory=max_memory)
    if isinstance(law, BlockedEmpirical):
        called = name if law.name == "data" else law.name
        numbers = some_of(law, n, seed)
        return _Read(rows_of_law(law, numbers), law, True, law.event_shape, called, law, numbers)
    law = law if law.drawn_from is None else law.drawn_from
    places, chances = law.point_masses()
    from_data = law.atoms > 0 and bool((chances == chances[0]).all())
    if name == "samples" and not from_data:
        raise ValueError(f"{law.name} is a law, and samples are points: give an array or a file of them")
    points = places if from_data else law.sample(n, seed)
    return _Read(points, law, from_data, law.event_shape, name if law.name == "data" else law.name)


def _classifier(
    classifier: Classifier | str | None, labels: Any, data: _Read, y: Float[Tensor, "m d"], seed: int
) -> tuple[Classifier | None, Tensor | None]:
    """What tells modes apart; and, if it was fitted to the reference, what it says of that without having seen it."""
    if labels is not None:
        if classifier is not None:
            raise ValueError("labels fit a classifier, and a classifier is given: leave one of them out")
        if not data.from_data:
            raise ValueError(f"labels belong to points, and {data.name} is a law: give data as the reference")
        if data.numbers is not None and len(data.numbers) < data.size:
            labels = as_labels(labels, data.size)[data.numbers]
        fitted = fit_classifier(y, labels, seed=seed)
        return fitted, fitted.held_out
    modes = None if data.law is None else data.law.components
    if modes is not None and classifier is None:
        return (data.law if len(modes.weights) > 1 and not modes.flat else None), None
    if classifier is None and data.name != "digits":
        return None, None
    if classifier is None or isinstance(classifier, str):
        if classifier not in (None, "digits"):
            raise ValueError(f"no classifier {classifier!r}: 'digits' comes along, others are fitted to labels")
        if y.shape[1] != 64:
            raise ValueError(f"the digits' classifier is for 8 x 8 pixels, and points have {y.shape[1]} numbers")
        return load_digits_classifier(), None
    return classifier, None


def _described(classifier: Classifier | str | None, labels: Any, model: Classifier | None) -> str:
    if labels is not None:
        return f"logistic regression on labels, accuracy {getattr(model, 'accuracy', math.nan):.3f} out of fold"
    if model is None or isinstance(model, Target):
        return "" if model is None else f"components of {model.name}"
    return "digits" if classifier is None or isinstance(classifier, str) else type(model).__name__


def _against(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    seen: Callable[[Tensor], Tensor],
    k: int,
    seed: int,
    max_memory: float,
    advance: Callable[[float], None],
    known: Moments | None,
) -> dict[str, Estimate]:
    """Distances and neighbourhoods; the Frechet distance from moments that are `known` of all data, where there are."""
    u, v = seen(x), seen(y)
    if known is None:
        plain, debiased = frechet_distance(u, v, seed=seed)
    else:
        plain, debiased = frechet_of_moments(u, *known, seed=seed)
    found = {"frechet": plain, "frechet_debiased": debiased, "kernel": kernel_distance(u, v, seed=seed)}
    advance(0.1)
    found |= precision_recall(u, v, k=k, seed=seed, max_memory=max_memory)._asdict()
    advance(0.2)
    distance = debiased_w2(x, y, seed=seed) if x.shape[1] <= EXACT else sliced_w2(x, y, projections=LINES, seed=seed)
    advance(0.15)
    return found | {"w2": around(distance.value, distance.value_se, least=0.0)}


def _dataset(found: dict[str, Row]) -> xr.Dataset:
    names = [name for name in METRICS if name in found]
    parts: dict[str, Any] = {}
    for side, columns in enumerate(COLUMNS):
        rows = np.array([found[name][side] or _NONE for name in names])
        parts |= {column: ("metric", values) for column, values in zip(columns, rows.T, strict=True)}
    result = xr.Dataset(parts, {"metric": names})
    return result.assign_coords(long_name=("metric", [METRICS[name] for name in names]))


def _features(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    features: Features,
    origin: Float[Tensor, " d"],
    known: Moments | None,
) -> tuple[Callable[[Tensor], Tensor], str]:
    """What `extract` gives, for points less `origin`: a function of the user's is given the points as they are."""
    if not callable(features):
        return extract(x, y, features=features, known=known)
    seen, called = extract(put_back(x, origin), put_back(y, origin), features=features)
    return lambda points: seen(put_back(points, origin)), called


def _moments_of(data: _Read, features: Features, origin: Float[Tensor, " d"]) -> Moments | None:
    """Mean, covariance and number of all reference points, where only some are in memory and features are linear."""
    if data.whole is None or features not in ("raw", "pca") or len(data.points) == data.size:
        return None
    mean, covariance = moments(data.whole)
    return mean - origin.cpu(), covariance, data.size


def _projected(known: Moments, seen: Callable[[Tensor], Tensor]) -> Moments:
    """The same of principal components, which `seen` makes of points: x -> A (x - c)."""
    mean, covariance, count = known
    zero = torch.zeros_like(mean)
    start = seen(zero[None])
    axes = seen(torch.eye(len(mean)).to(mean)) - start  # A'
    return seen(mean[None])[0], axes.T @ covariance @ axes, count


def _pairs(memory: Memorisation, x: Float[Tensor, "n d"], train: _Read, origin: Float[Tensor, " d"]) -> xr.Dataset:
    """How close every sample is to the training data, and the closest pairs themselves."""
    near, best = memory.samples, memory.closest(PAIRS)
    theirs = train.rows(near.index[best].to(train.points.device), origin)
    points = torch.stack([x[best], theirs.to(x.device).double()], 1)
    columns: dict[str, Any] = {
        "closeness": ("sample", near.closeness),
        "control_closeness": ("held", memory.control.closeness),
        "pair_sample": ("pair", torch.tensor(best)),
        "pair_train": ("pair", near.index[best]),
        "pair_distance": ("pair", near.distance[best]),
        "pair_closeness": ("pair", near.closeness[best]),
        "pair_points": (("pair", "side", "coordinate"), put_back(points, origin)),
    }
    if x.shape[1] == 2:
        columns["cloud"] = (("place", "coordinate"), put_back(train.points[:CLOUD], origin))
    return xr.Dataset({name: (dims, values.cpu().numpy()) for name, (dims, values) in columns.items()})
