"""Couplings of noise and data: what they leave as it is, what they cost, and what is refused."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from brenier import RecordedPairs, SemiDiscrete
from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.training.pairs import Independent, Listed, Mapped, Minibatch, Pairs, name_of, pairs_of, plan
from brenier.training.points import Points
from brenier.training.workers import Workers

DATA = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
LAW = Empirical(DATA, name="forty")
HERE = Workers(torch.device("cpu"))


def of(pairs: Any, law: Any = LAW, size: int | None = None) -> Pairs:
    return pairs_of(pairs, size, law, law, HERE)


def fitted(points: np.ndarray = DATA, **options: Any) -> SemiDiscrete:
    return SemiDiscrete(points, **options).fit(0.2, progress=False)


def listed(size: int, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Noise k, k, k with point k modulo 40, so many at a time."""
    for k in itertools.count() if count is None else range(count):
        index = torch.arange(size * k, size * (k + 1))
        yield index[:, None].float().expand(size, 3), index % 40


def test_a_plan_is_the_best_permutation() -> None:
    x, y = (torch.randn(6, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    cost = {p: float((x - y[list(p)]).square().sum()) for p in itertools.permutations(range(6))}
    assert tuple(plan(x, y).tolist()) == min(cost, key=lambda p: cost[p])


def test_couplings_leave_both_laws_and_lower_the_cost() -> None:
    found: dict[str, float] = {}
    for name, pairs in (
        ("independent", of("independent")),
        ("by 4", of("minibatch", size=4)),
        ("by 64", of("minibatch", size=64)),
        ("map", of(fitted())),
    ):
        x, y, _ = pairs.draw(3000, (1, 2))
        assert x.shape == y.shape == (3000, 3)
        assert float(x.mean(0).abs().max()) < 4 / np.sqrt(3000)
        assert float((x.std(0) - 1).abs().max()) < 4 / np.sqrt(6000)
        away, place = (y[:, None] - torch.from_numpy(DATA)).abs().amax(2).min(1)
        assert float(away.max()) < 1e-6
        counts = place.bincount(minlength=40)
        assert float((counts / 3000 - 1 / 40).abs().max()) < 0.02
        found[name] = float((x - y).square().sum(1).mean())
        again, *_ = pairs.draw(3000, (1, 2))
        other, *_ = pairs.draw(3000, (1, 3))
        assert torch.equal(again, x)
        assert not torch.equal(other, x)
    assert found["map"] < found["by 64"] < found["by 4"] < found["independent"]


def test_minibatch_pairs_are_independent_ones_in_another_order() -> None:
    points = Points(LAW, HERE.device)
    (x, y, _), (mine, theirs, _) = Minibatch(points, 16).draw(40, (1, 2)), Independent(points).draw(40, (1, 2))
    assert torch.equal(x, mine)
    for part, other in zip(y.split(16), theirs.split(16), strict=True):
        assert sorted(map(tuple, part.tolist())) == sorted(map(tuple, other.tolist()))


def test_a_map_gives_each_noise_its_point() -> None:
    transport = fitted()
    pairs = of(transport)
    assert isinstance(pairs, Mapped)
    x, y, _ = pairs.draw(50, (0, 7))
    torch.testing.assert_close(y, torch.from_numpy(DATA)[transport.cells(x)])


def test_pairs_that_are_found_ahead_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where others are asked for than were prepared; those that were are found once."""
    transport = fitted()
    plain, ahead = of(transport), of(transport)
    asked: list[int] = []
    real = transport.draw_pairs

    def counted(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        asked.append(n)
        return real(n, generator)

    expected = [plain.draw(50, seeds) for seeds in ((1, 2), (3, 4), (5, 6))]
    monkeypatch.setattr(transport, "draw_pairs", counted)
    ahead.prepare(50, (1, 2))
    first = ahead.draw(50, (1, 2))
    assert asked == [50]
    ahead.prepare(50, (9, 9))
    for pair, other in zip((first, ahead.draw(50, (3, 4)), ahead.draw(50, (5, 6))), expected, strict=True):
        assert torch.equal(pair[0], other[0])
        assert torch.equal(pair[1], other[1])


@pytest.mark.parametrize("kind", ["fresh", "recorded", "by class"])
def test_streams_of_a_map_are_checked_and_gone_on_with_by_their_place(kind: str) -> None:
    transport = fitted(labels=np.arange(40) % 2) if kind == "by class" else fitted()
    recording = transport.record(600, progress=False)

    def stream() -> Any:
        return RecordedPairs(recording, 16) if kind == "recorded" else transport.pairs(16)

    whole, rest = of(stream()), of(stream())
    drawn = torch.cat([torch.stack(whole.draw(10, ())[:2]) for _ in range(6)], 1)
    rest.skip(50)
    torch.testing.assert_close(torch.stack(rest.draw(10, ())[:2]), drawn[:, 50:])
    with pytest.raises(ValueError, match="data differ from the points that the pairs lead to"):
        of(stream(), Empirical(DATA[::-1].copy()))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_listed_pairs_come_in_their_order(size: int) -> None:
    whole, rest = of(listed(size)), of(listed(size))
    parts = [whole.draw(n, ())[:2] for n in (5, 30, 1)]
    x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    assert x[:, 0].tolist() == list(range(36))
    torch.testing.assert_close(y, torch.from_numpy(DATA)[:36])
    rest.skip(35)
    assert rest.draw(1, ())[0][0, 0] == 35


def test_single_pairs_and_lists_will_do() -> None:
    pairs = of([([0.0, 1.0, 2.0], 3), (np.zeros((2, 3)), [4, 5])])
    x, y, _ = pairs.draw(3, ())
    assert x.tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(y, torch.from_numpy(DATA)[3:6])


def test_processes_share_listed_pairs() -> None:
    seen: list[Tensor] = []
    for rank in range(2):
        workers = Workers(torch.device("cpu"))
        workers.rank, workers.count = rank, 2
        pairs = Listed(Points(LAW, workers.device), listed(7), (3,), workers)
        seen.append(torch.stack([pairs.draw(4, ())[0][:, 0] for _ in range(2)]))
    assert torch.cat(seen, 1).tolist() == [list(range(8)), list(range(8, 16))]


def test_noise_follows_channels_that_are_turned() -> None:
    """Pairs know points as they were given, channels last; a network takes them first."""
    given = Empirical(np.random.default_rng(1).normal(size=(5, 2, 4, 3)), name="images")
    order = torch.arange(24).reshape(2, 4, 3).movedim(-1, 0).flatten()
    turned = given.arranged(order, (3, 2, 4))
    pairs = pairs_of([(given.data[:4], [0, 1, 2, 3])], None, turned, given, HERE)
    x, y, _ = pairs.draw(4, ())
    torch.testing.assert_close(x, y)
    assert x.shape == (4, 3, 2, 4)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (listed(4, 2), r"the pairs ended after 8, amid the training"),
        ([(np.zeros((10, 3)), np.arange(35, 45))], "pairs name point 40: forty has points 0 to 39"),
        ([(np.zeros((10, 3)), -1 - np.arange(10))], "pairs name point -1"),
        ([(np.zeros((10, 2)), np.arange(10))], r"do not fit each other: \(10, 2\) for 10 points of 3 numbers"),
        (iter([np.zeros((10, 3))]), r"pairs must yield \(noise, index\), got ndarray"),
        ([(np.zeros((10, 3)), np.arange(10.0))], "indices of pairs must be whole numbers"),
        (iter([(np.zeros((10, 3)),)]), r"pairs must yield \(noise, index\), got tuple"),
    ],
)
def test_pairs_that_do_not_do(pairs: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        of(pairs).draw(10, ())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("transport", "law", "words"),
    [
        (fitted(DATA[:30]), LAW, r"fitted to other points than forty holds \(\(30, 3\), not \(40, 3\)\)"),
        (fitted(DATA[::-1].copy()), LAW, "other points than forty holds .of other values"),
        (fitted(DATA, weights=np.arange(1.0, 41.0) / 820), LAW, "other weights than forty has"),
        (fitted(np.random.default_rng(0).random((40, 3)), source="uniform"), LAW, "starts from uniform"),
        (fitted(np.random.default_rng(0).random((40, 3)), source="uniform").pairs(5), LAW, "starts from uniform"),
        (SemiDiscrete(DATA), LAW, "has not been fitted yet"),
        (fitted(), GaussianMixture([1.0], [[0.0] * 3], [1.0], name="blob"), "blob is a law: give data"),
    ],
)
def test_a_map_of_other_data_is_refused(transport: Any, law: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        of(transport, law)
    assert "\n" not in str(caught.value)


LABELS = torch.arange(40) % 2
SORTED = torch.from_numpy(DATA[:, 0] > 0).long()  # classes that a map has reason to mix with the noise


def with_labels(pairs: Any, size: int | None = None, labels: Tensor = SORTED) -> Pairs:
    return pairs_of(pairs, size, LAW, LAW, HERE, labels)


def test_noise_knows_no_classes() -> None:
    """Given the class the noise is N(0, I): of plans within classes, and of maps by class; not of plans at large."""
    n = 4000
    recording = fitted(labels=SORTED).record(n, progress=False)
    for pairs in ("independent", "minibatch", fitted(labels=SORTED), RecordedPairs(recording, 50)):
        x, y, labels = with_labels(pairs, 64).draw(n, (1, 2))
        assert labels is not None
        torch.testing.assert_close(labels, (y[:, 0] > 0).long())
        for which in (0, 1):
            mine = x[labels == which]
            assert float(mine.mean(0).abs().max()) < 4.5 / np.sqrt(len(mine))
            assert float((mine.std(0) - 1).abs().max()) < 4.5 / np.sqrt(2 * len(mine))
    x, y, _ = of("minibatch", size=64).draw(n, (1, 2))
    assert float(x[y[:, 0] > 0].mean(0)[0]) > 0.4


def test_a_plan_within_classes_is_the_best_there() -> None:
    x, y = (torch.randn(6, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    cost = {
        p: float((x - y[list(p)]).square().sum())
        for p in itertools.permutations(range(6))
        if torch.equal(labels[list(p)], labels)
    }
    assert tuple(plan(x, y, labels).tolist()) == min(cost, key=lambda p: cost[p])


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (fitted(), "the map knows no classes"),
        (fitted(labels=LABELS), "fitted to other classes than forty is given"),
        (fitted().pairs(10), "the map of these pairs knows no classes"),
    ],
)
def test_maps_that_know_other_classes_are_refused(pairs: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        with_labels(pairs).draw(10, (1, 2))
    assert "\n" not in str(caught.value)


def test_names_of_pairs() -> None:
    some: Sequence[Any] = []
    assert [name_of(pairs) for pairs in ("independent", "minibatch", fitted(), some)] == [
        "independent",
        "minibatch",
        "given",
        "given",
    ]
    with pytest.raises(ValueError, match="pairs must be independent, minibatch, a map or pairs themselves, got 'best'"):
        name_of("best")
