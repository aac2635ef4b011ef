import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

from brenier.laws.empirical import Empirical
from brenier.laws.mixture import GaussianMixture
from brenier.metrics import class_probabilities, fit_classifier, load_digits_classifier, mode_mixture, stray
from brenier.metrics.digits import digits_split, save, train_digits_classifier

ANGLES = torch.arange(8, dtype=torch.float64) * math.pi / 4
CENTRES = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
RING = GaussianMixture([1.0] * 8, CENTRES, 0.01)


def test_mode_mixture_by_hand() -> None:
    p = torch.tensor([[0.89, 0.11, 0.0], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert mode_mixture(p).value == 0.5
    assert mode_mixture(p, 0.1).value == 0.75
    assert mode_mixture(p, 0.5).value == 0
    assert mode_mixture(p).low > 0


def test_every_kind_of_classifier() -> None:
    x = torch.tensor([[0.0], [2.0]])
    expected = torch.tensor([[0.5, 0.5], [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]], dtype=torch.float64)

    class Sklearnish:
        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            p = 1 / (1 + np.exp(-X[:, 0]))
            return np.stack([p, 1 - p], 1)

    module = nn.Linear(1, 2, bias=False)
    module.weight.data = torch.tensor([[1.0], [0.0]])
    mixture = GaussianMixture([1, 1], [0.5, -0.5], 1.0)  # log odds x
    for one in (module, Sklearnish(), lambda rows: torch.softmax(rows @ torch.tensor([[1.0, 0.0]]), 1), mixture):
        torch.testing.assert_close(class_probabilities(one, x), expected, rtol=1e-6, atol=1e-6)


def test_components_are_weighed_by_density() -> None:
    covariances = [[[1.0, 0.5], [0.5, 2.0]], [[0.3, 0.0], [0.0, 0.1]]]
    mixture = GaussianMixture([0.3, 0.7], [[0.0, 0.0], [1.0, 0.5]], covariances)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = np.stack(
        [
            w * multivariate_normal(m, c).pdf(x)
            for w, m, c in zip([0.3, 0.7], [[0, 0], [1, 0.5]], covariances, strict=True)
        ],
        1,
    )
    np.testing.assert_allclose(class_probabilities(mixture, x), parts / parts.sum(1, keepdims=True))


def test_on_a_ring_bridges_are_stray_and_hardly_mixed() -> None:
    """Half way between two modes both have half the posterior; elsewhere on the bridge one has all of it."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    bridge = (1 - t) * CENTRES[0] + t * CENTRES[1]
    gap, reach = float((CENTRES[1] - CENTRES[0]).norm()), math.sqrt(-2 * math.log(0.001)) * 0.1
    strip = 2 * 0.01 * math.log(0.89 / 0.11) / gap
    assert stray(bridge, RING).value == pytest.approx(1 - 2 * reach / gap, abs=0.02)
    assert mode_mixture(class_probabilities(RING, bridge)).value == pytest.approx(strip / gap, abs=0.01)
    own = RING.sample(20000, 1)
    assert abs(stray(own, RING).value - 0.001) < 3 * math.sqrt(0.001 / 20000)


def test_a_fitted_classifier_knows_the_modes_and_what_it_has_not_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(8, (400,), generator=generator)
    x = CENTRES[labels] + 0.1 * torch.randn(400, 2, generator=generator, dtype=torch.float64)
    fitted = fit_classifier(x, [f"mode {int(k)}" for k in labels])
    assert fitted.accuracy == 1
    assert list(fitted.classes) == [f"mode {k}" for k in range(8)]
    assert (class_probabilities(fitted, CENTRES).argmax(1) == torch.arange(8)).all()
    middle = mode_mixture(class_probabilities(fitted, (CENTRES + CENTRES.roll(1, 0)) / 2))
    assert middle.value == 1
    assert mode_mixture(fitted.held_out).value < 0.02


def test_overlapping_classes_have_the_posterior_of_their_law() -> None:
    """Labels of N(-1, 1) and N(1, 1): log odds 2 x, and so a mixture for |x| < log(0.89/0.11)/2."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (16000,), generator=generator)
    x = torch.randn(16000, 1, generator=generator, dtype=torch.float64) + (2 * labels - 1)[:, None]
    p = class_probabilities(fit_classifier(x, labels), torch.tensor([[0.0], [0.5], [1.0]]))
    torch.testing.assert_close(
        p[:, 1], torch.sigmoid(torch.tensor([0.0, 1.0, 2.0]).double()), rtol=0, atol=0.03
    )  # 4 deviations


def test_the_digits_classifier_is_as_good_as_it_says() -> None:
    images, labels, (rows, others, held) = digits_split()
    assert sorted(torch.cat([rows, others, held]).tolist()) == list(range(1797))
    classifier = load_digits_classifier()
    right = classifier(images[held]).argmax(1) == labels[held]
    assert int((~right).sum()) == 1
    p = class_probabilities(classifier, images[held])
    assert float(p.amax(1).mean()) == pytest.approx(float(right.double().mean()), abs=0.01)  # calibrated
    assert mode_mixture(p).value < 0.03
    blended = class_probabilities(classifier, (images[held[:180]] + images[held[180:]]) / 2)
    assert mode_mixture(blended).value > 0.3


def test_it_can_be_trained_again(tmp_path) -> None:
    images, labels, (_, _, held) = digits_split()
    state = torch.get_rng_state()
    made = train_digits_classifier(0, epochs=2)
    assert bool((torch.get_rng_state() == state).all())
    assert float((made(images[held]).argmax(1) == labels[held]).double().mean()) > 0.85
    save(made, tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").stat().st_size > 40_000


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_arrays_and_lists_are_as_good_as_tensors(kind: Callable[[np.ndarray], object]) -> None:
    x = RING.sample(60, 1)
    given = kind(x.numpy())
    p = class_probabilities(RING, x)
    assert isinstance(class_probabilities(RING, given), np.ndarray)
    np.testing.assert_array_equal(class_probabilities(RING, given), p)
    assert mode_mixture(kind(p.numpy())) == mode_mixture(p)
    assert stray(given, RING) == stray(x, RING)


def test_a_classifier_fitted_to_a_list_is_that_of_the_tensor() -> None:
    x, labels = RING.sample(60, 1), [0, 1] * 30
    found, fitted = fit_classifier(x.tolist(), labels), fit_classifier(x, labels)
    assert isinstance(found.held_out, np.ndarray)
    np.testing.assert_array_equal(found.held_out, fitted.held_out)


def test_a_law_without_components_is_no_classifier() -> None:
    law = Empirical([[0.0, 0.0], [1.0, 1.0]], name="two")
    with pytest.raises(ValueError, match="two is no mixture of components that are known"):
        class_probabilities(law, [[0.0, 0.0]])
    with pytest.raises(ValueError, match="two is no mixture"):
        stray([[0.0, 0.0]], law)


def test_refused() -> None:
    x = torch.zeros(12, 2)
    with pytest.raises(ValueError, match=r"lambda must lie in \(0, 0.5\]"):
        mode_mixture(torch.ones(1, 2) / 2, 0.6)
    with pytest.raises(ValueError, match="at least one sample"):
        mode_mixture(torch.ones(0, 2) / 2)
    with pytest.raises(ValueError, match="logits need a torch module"):
        class_probabilities(lambda rows: rows + 3, x)
    with pytest.raises(ValueError, match="fewer than two classes"):
        class_probabilities(lambda rows: torch.ones(len(rows), 1), x)
    with pytest.raises(ValueError, match="samples have 3 numbers each, the mixture 2"):
        stray(torch.zeros(2, 3), RING)
    with pytest.raises(ValueError, match="no variance in some direction"):
        stray(torch.zeros(2, 1), GaussianMixture([1, 1], [0.0, 1.0], [0.0, 1.0]))
    for labels, words in (
        ([0] * 11, "one for each"),
        ([0] * 12, "all labels are 0"),
        ([0] * 8 + [1] * 4, "only 4 of the points are labelled 1"),
        ([math.nan] + [0.0] * 11, "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_classifier(x, labels)


def test_labels_that_are_masked_are_missing() -> None:
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="labels: 1 value is masked, first in row 7"):
        fit_classifier(x, np.ma.masked_equal(np.where(np.arange(40) == 7, -1, np.arange(40) % 2), -1))
