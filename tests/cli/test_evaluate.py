import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brenier.metrics.evaluation import evaluate, to_table

Command = Callable[..., Any]  # to a `Result` of conftest.py


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, n in (("x", 80), ("y", 90), ("t", 100)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(n, 2)))
    np.save(tmp_path / "wide.npy", rng.normal(size=(80, 3)))
    np.save(tmp_path / "few.npy", rng.normal(size=(30, 2)))
    np.save(tmp_path / "labels.npy", np.load(tmp_path / "y.npy")[:, 0] > 0)
    np.save(tmp_path / "one.npy", np.zeros(90))
    np.save(tmp_path / "gap.npy", np.full(90, np.nan))
    return tmp_path


def test_it_saves_what_the_function_returns(brenier: Command, files: Path) -> None:
    table, figure = files / "table.json", files / "f.png"
    found = brenier(
        *("evaluate", files / "x.npy", "--reference", files / "y.npy", "--train", files / "t.npy", "--seed", 3),
        *("--labels", files / "labels.npy", "-k", 4, "--lambda", 0.2, "-o", table, "--figure", figure),
    )
    assert (found.code, found.err) == (0, "")
    labels = np.load(files / "labels.npy")
    names = [str(files / f"{name}.npy") for name in "xyt"]
    expected = evaluate(*names[:2], train=names[2], labels=labels, k=4, threshold=0.2, seed=3, progress=False)
    assert json.loads(table.read_text()) == json.loads(json.dumps(to_table(expected)))
    assert figure.read_bytes()[:4] == b"\x89PNG"
    row = next(line for line in found.out.splitlines() if line.startswith("recall"))
    for side in ("value", "control"):
        assert f"{float(expected[side].sel(metric='recall')):.3f} ±" in row
    assert "held-out points" in found.out
    assert "between classes of logistic regression on labels" in found.out
    assert "nan" not in found.out


def test_copies_are_said_to_be_more_than_there_should_be(brenier: Command, files: Path) -> None:
    out = brenier("evaluate", files / "t.npy", "--reference", files / "y.npy", "--train", files / "t.npy").out
    lines = [line for line in " ".join(out.split()).split(". ") if line.startswith("100.0% of the samples lie nearer")]
    text = " ".join(out.split())
    assert len(lines) >= 1
    assert text.count("of the held-out points: more.") == 2
    again = brenier("evaluate", files / "x.npy", "--reference", files / "y.npy", "--train", files / "t.npy").out
    assert "the same within the errors" in " ".join(again.split())


def test_few_samples_are_said_to_be_few(brenier: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "xy":
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(100, 20)))
    out = brenier("evaluate", tmp_path / "x.npy", "--reference", tmp_path / "y.npy").out
    assert "100 points are few for a Frechet distance of 20 features: 200 are enough." in out
    out = brenier("evaluate", tmp_path / "x.npy", "--reference", tmp_path / "y.npy", "--features", "pca").out
    assert "are few for" not in out
    assert "pca, 10 components" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.npy", "--reference", "y.npy"), ["gone.npy", "does not exist"]),
        (("normal", "--reference", "y.npy"), ["normal is a law", "samples are points"]),
        (("x.npy", "--reference", "digit"), ["did you mean 'digits'"]),
        (("few.npy", "--reference", "y.npy"), ["30 points in samples", "at least 50"]),
        (("wide.npy", "--reference", "y.npy"), ["wide.npy have shape (3,), those of y.npy (2,)"]),
        (("x.npy", "--reference", "digits"), ["x.npy have shape (2,), those of digits (8, 8)"]),
        (("x.npy", "--reference", "y.npy", "--train", "wide.npy"), ["wide.npy have shape (3,), those of x.npy (2,)"]),
        (("x.npy", "--reference", "y.npy", "--train", "normal"), ["normal is a law"]),
        (("x.npy", "--reference", "y.npy", "--labels", "x.npy"), ["labels have shape (80, 2)", "90 points"]),
        (("x.npy", "--reference", "y.npy", "--labels", "one.npy"), ["all labels are 0"]),
        (("x.npy", "--reference", "y.npy", "--labels", "gap.npy"), ["gap.npy", "NaN"]),
        (("gap.npy", "--reference", "y.npy"), ["gap.npy", "NaN"]),
        (("x.npy", "--reference", "y.npy", "-k", "80"), ["80 neighbours"]),
        (("x.npy", "--reference", "y.npy", "-k", "0"), ["k must be"]),
        (("x.npy", "--reference", "y.npy", "--classifier", "digits"), ["8 x 8 pixels"]),
        (("x.npy", "--reference", "y.npy", "--labels", "labels.npy", "--lambda", "0.6"), ["lambda", "0.6"]),
        (("x.npy", "--reference", "y.npy", "-o", "kept.json"), ["kept.json", "--force"]),
        (("x.npy", "--reference", "y.npy", "-o", "t.csv"), ["t.csv", ".json"]),
        (("x.npy", "--reference", "y.npy", "--figure", "f.gif"), ["f.gif"]),
        (("x.npy",), ["--reference"]),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    brenier: Command, files: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: list[str]
) -> None:
    (files / "kept.json").write_text("kept")
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    output = () if "-o" in arguments or "--figure" in arguments else ("-o", "new.json", "--figure", "new.png")
    brenier("evaluate", *arguments, *output).refused(*words)
    assert sorted(files.iterdir()) == before
    assert (files / "kept.json").read_text() == "kept"


def test_labels_are_the_subfolders_of_images(brenier: Command, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(120):
        name, low = (("cat", 0), ("dog", 150))[row % 2]
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(low, low + 100, (2, 2), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / name / f"{row}.png")
    table = tmp_path / "table.json"
    data = tmp_path / "data"
    found = brenier("evaluate", data, "--reference", data, "--labels", data, "-o", table)
    assert found.code == 0
    about = json.loads(table.read_text())
    assert about["classifier"] == "logistic regression on labels, accuracy 1.000 out of fold"
    assert about["metrics"]["mmr"]["value"] == pytest.approx(0, abs=0.02)
    brenier("evaluate", data, "--reference", data, "--labels", data / "cat").refused("have no labels")


def test_data_in_blocks_are_judged_against_as_in_memory(brenier: Command, files: Path) -> None:
    asked = ("evaluate", files / "x.npy", "--reference", files / "y.npy", "--train", files / "t.npy", "--json")
    whole, found = json.loads(brenier(*asked).out), brenier(*asked, "--max-memory", 1e-9)
    assert (found.code, found.err) == (0, "")
    blocked = json.loads(found.out)
    assert {row["metric"]: row["value"] for row in blocked["rows"]} == pytest.approx(
        {row["metric"]: row["value"] for row in whole["rows"]}, rel=1e-4, abs=1e-6
    )
    refused = ("evaluate", files / "x.npy", "--reference", files / "gap.npy", "--max-memory", 1e-9)
    brenier(*refused).refused("NaN or infinite in block 0, rows 0, 1")
    labelled = (*asked, "--labels", files / "labels.npy")
    one, other = (json.loads(brenier(*labelled, *more).out)["rows"] for more in ((), ("--max-memory", 1e-9)))
    assert {row["metric"]: row["value"] for row in other} == pytest.approx(
        {row["metric"]: row["value"] for row in one}, rel=1e-4, abs=1e-6
    )
