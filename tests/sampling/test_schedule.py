"""A schedule refuses what is none, counts what it costs, and comes back from a file as it was."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brenier.sampling.schedule import Schedule

FULL = Schedule(
    [3.0, 1 / 3, 0.0],
    "heun",
    criterion="error",
    predicted_error=[0.1, 1e-17],
    end_error_se=0.02,
    objective="law",
    predicted_objective=0.05,
    predicted_objective_se=0.01,
    law="ring \u2205",
    seed=7,
    evaluations=12_000,
    convention="epsilon from sqrt(ab) X + sqrt(1 - ab) Z, told 258 at SNR 1",
)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, iter, lambda x: np.array(x, dtype=np.float32)])
def test_numbers_from_any_sequence(kind):
    schedule = Schedule(kind([4, 0.5, 0]), "euler", criterion="by hand", predicted_error=kind([2, 0.25]))
    assert schedule.sigmas == (4.0, 0.5, 0.0)
    assert schedule.predicted_error == (2.0, 0.25)
    assert {type(sigma) for sigma in schedule.sigmas} == {float}


@pytest.mark.parametrize(("solver", "cost", "above"), [("euler", 3, 3), ("heun", 5, 6), ("annealed-langevin", 11, 15)])
def test_steps_and_evaluations(solver, cost, above):
    schedule = Schedule([8, 4, 2, 0], solver, criterion="x")
    assert (schedule.steps, schedule.evaluations_per_sample) == (3, cost)
    assert replace(schedule, sigmas=(8, 4, 2, 1)).evaluations_per_sample == above


def test_levels_as_text():
    schedule = Schedule([14.614646, 1 / 3, 0.0], "euler", criterion="x")
    assert schedule.to_text() == "14.614646, 0.333333333, 0"
    assert [float(level) for level in schedule.to_text().split(",")] == pytest.approx(schedule.sigmas)
    close = (10.0, 10.0 * (1 - 1e-12), 1.0)
    assert tuple(float(level) for level in Schedule(close, "euler", criterion="x").to_text().split(",")) == close


def test_the_predicted_error_is_the_sum_over_steps():
    assert Schedule([2, 1, 0.5, 0], "euler", criterion="x", predicted_error=[0.1, 0.2, 0.4]).end_error == pytest.approx(
        0.7, rel=1e-15
    )
    assert Schedule([2, 1], "euler", criterion="x").end_error is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": [1.0]}, "a grid of noise levels has at least two, got 1"),
        ({"sigmas": []}, "a grid of noise levels has at least two, got 0"),
        ({"sigmas": [0, 1, 2]}, "noise levels must descend, got 1 after 0 at step 1"),
        ({"sigmas": [2, 1, 1]}, "noise levels must descend, got 1 after 1 at step 2"),
        ({"sigmas": [2, 0, -1]}, "noise levels must be positive, the last may be 0, got -1"),
        ({"sigmas": [math.inf, 1]}, r"sigmas must be finite, got inf \(entry 0"),
        ({"sigmas": [1, math.nan]}, "sigmas must be finite, got nan"),
        ({"sigmas": [10**400, 1]}, "sigmas must be finite, got inf"),
        ({"sigmas": ["2", "1"]}, "sigmas must be numbers, got '2'"),
        ({"sigmas": [True, False]}, "sigmas must be numbers, got 'True'"),
        ({"sigmas": torch.ones(2, 2)}, "sigmas must be numbers"),
        ({"sigmas": "21"}, "sigmas must be a list of numbers, got str"),
        ({"sigmas": torch.tensor(3.0)}, "sigmas must be a list of numbers, got float"),
        ({"solver": "ode45"}, "no solver 'ode45': it is one of euler, heun"),
        ({"criterion": ""}, "criterion must be the name"),
        ({"criterion": 3}, "criterion must be the name"),
        ({"predicted_error": [0.1]}, "predicted_error must be 2 numbers, one per step"),
        ({"predicted_error": [0.1, math.nan]}, "predicted_error must be finite"),
        ({"law": 3}, "law must be a name, got 3"),
        ({"convention": ["ddpm"]}, r"convention must be a name, got \['ddpm'\]"),
        ({"seed": 0.5}, "seed must be a whole number of at least 0"),
        ({"evaluations": -1}, "evaluations must be a whole number of at least 0"),
    ],
)
def test_refused(change, message):
    arguments = {"sigmas": [2, 1, 0], "solver": "euler", "criterion": "x"} | change
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


@settings(max_examples=30)
@given(st.sets(st.floats(min_value=1e-300, max_value=1e300), min_size=2), st.booleans())
def test_text_gives_back_every_bit(levels, to_zero):
    schedule = Schedule([*sorted(levels, reverse=True), *([0.0] if to_zero else [])], "dpmpp-2m", criterion="x")
    assert Schedule.from_json(schedule.to_json()) == schedule


def test_files(tmp_path):
    path = tmp_path / "schedule.json"
    text = FULL.to_json(path)
    assert Schedule.from_json(path) == Schedule.from_json(str(path)) == Schedule.from_json(text) == FULL
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "sigmas": [3.0, 1 / 3, 0.0],
        "solver": "heun",
        "criterion": "error",
        "predicted_error": [0.1, 1e-17],
        "end_error_se": 0.02,
        "objective": "law",
        "predicted_objective": 0.05,
        "predicted_objective_se": 0.01,
        "law": "ring \u2205",
        "seed": 7,
        "evaluations": 12_000,
        "convention": "epsilon from sqrt(ab) X + sqrt(1 - ab) Z, told 258 at SNR 1",
    }
    with pytest.raises(ValueError, match="exists: give another name, or --force"):
        replace(FULL, seed=8).to_json(path)
    assert Schedule.from_json(path).seed == 7
    replace(FULL, seed=8).to_json(path, force=True)
    assert Schedule.from_json(path).seed == 8
    assert [file.name for file in tmp_path.iterdir()] == ["schedule.json"]


def test_a_schedule_by_hand_needs_three_keys():
    written = '  {"sigmas": [4, 1, 0], "solver": "euler", "criterion": "mine", "predicted_error": null}'
    assert Schedule.from_json(written) == Schedule([4, 1, 0], "euler", criterion="mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON: Expecting value"),
        ("sigmas: 3", "is not JSON"),
        ("[3, 2, 1]", "is not a schedule: must be an object with sigmas, solver, criterion, got list"),
        ("[" * 100_000, "is not a schedule: it is nested too deeply"),
        ('{"solver": "euler", "criterion": "x"}', "is not a schedule: 'sigmas' is missing"),
        ('{"sigmas": [2, 1], "solver": null, "criterion": "x"}', "'solver' is missing"),
        ('{"sigmas": [2, 1], "solver": "euler", "criterion": "x", "sigma": 3}', "'sigma' is nothing that a schedule"),
        (
            '{"sigmas": [1, 2], "solver": "euler", "criterion": "x"}',
            "is not a schedule: noise levels must descend, got 2 after 1",
        ),
        ('{"sigmas": [2, NaN], "solver": "euler", "criterion": "x"}', "holds NaN, which is no number in JSON"),
        ('{"sigmas": [Infinity, 1], "solver": "euler", "criterion": "x"}', "holds Infinity"),
        ('{"sigmas": [1e999, 1], "solver": "euler", "criterion": "x"}', "sigmas must be finite, got inf"),
        ('{"sigmas": ["2", "1"], "solver": "euler", "criterion": "x"}', "sigmas must be numbers, got '2'"),
        ('{"sigmas": [2, true], "solver": "euler", "criterion": "x"}', "sigmas must be numbers, got 'True'"),
        ('{"sigmas": {"2": 1}, "solver": "euler", "criterion": "x"}', "sigmas must be a list of numbers, got dict"),
        ('{"sigmas": [2, 1], "solver": ["euler"], "criterion": "x"}', "no solver"),
    ],
)
def test_wrong_files(content, message, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        Schedule.from_json(path)
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\x80\x81\x82")
    for path, message in [
        (tmp_path / "none.json", "none.json' cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "binary.json", "binary.json' is not JSON"),
    ]:
        with pytest.raises(ValueError, match=message):
            Schedule.from_json(path)
