from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import brenier
from brenier.laws.from_density import from_density
from brenier.laws.line.density import OnTheLine

SAID = "import numpy as np\ndim = {dim}\ndef log_density(x):\n    return -(x**2).sum(1) / 2\n"


def test_in_one_dimension_it_is_the_law_on_the_line() -> None:
    law = from_density(lambda x: -(x[:, 0] ** 2) / 2, 1, name="own")
    assert isinstance(law, OnTheLine)
    assert law.name == "own"
    y = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(law.localize(y, 2.0).norm, np.full(5, 0.8), rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_a_python_file_is_a_law(tmp_path: Path, dim: int) -> None:
    (tmp_path / "law.py").write_text(SAID.format(dim=dim))
    law = brenier.load_target(tmp_path / "law.py")
    assert (law.name, law.dim) == ("law.py", dim)
    y = torch.zeros((3, dim), dtype=torch.float64)
    np.testing.assert_allclose(law.localize(y, 1.0).norm, np.full(3, 0.5), rtol=0.02)


def test_a_file_may_be_in_torch_and_say_where_its_modes_are(tmp_path: Path) -> None:
    (tmp_path / "law.py").write_text(
        "import torch\ndim = 2\nat = [[30.0, 0.0]]\ndef log_density(x):\n"
        "    away = torch.stack([x, x - torch.tensor([30.0, 0.0])])\n"
        "    scale = torch.tensor([1.0, 0.05])[:, None]\n"
        "    return torch.logsumexp(-((away ** 2).sum(2) / 2 / scale**2) - 2 * scale.log(), 0)\n"
    )
    law = brenier.load_target(tmp_path / "law.py")
    np.testing.assert_allclose(law.moments()[0], [15.0, 0.0], atol=1e-3)
    assert law.density() is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dim = 2\n", "no function log_density"),
        ("def log_density(x): return x.sum(1)\n", "no whole number dim"),
        ("dim = 0\ndef log_density(x): return x.sum(1)\n", "dim must be a whole number"),
        ("dim = 2\ndef log_density(x): return x\n", "one number per point"),
        ("dim = 2\ndef log_density(x): return x.sum(1) * float('nan')\n", "log_density is nan at x"),
        ("dim = 2\ndef log_density(x): return 0 * x.sum(1)\n", "its integral is infinite"),
        ("dim = 2\nat = [[1, 2, 3]]\ndef log_density(x): return -(x**2).sum(1)\n", "points of 2 coordinates"),
        ("dim = 2\ndef log_density(x): raise KeyError('z')\n", "KeyError"),
        ("dim = 2 +\n", "SyntaxError"),
        ("dim = 1\ndef log_density(x): return 0 * x.sum(1)\n", "integral is infinite"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "law.py").write_text(text)
    with pytest.raises((ValueError, TypeError), match=r"law\.py") as caught:
        brenier.load_target(tmp_path / "law.py")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dim", [0, -1, 1.5, "2"])
def test_a_dimension_is_a_whole_number(dim: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="dim"):
        from_density(lambda x: -(x**2).sum(1), dim)
