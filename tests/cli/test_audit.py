from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers

from brenier.core.records import read
from brenier.sampling.schedule import Schedule


def test_the_status_says_whether_something_is_off(brenier: Callable[..., Any], tmp_path: Path) -> None:
    diffusers.DDIMScheduler().save_pretrained(tmp_path / "bad")
    diffusers.EulerDiscreteScheduler().save_pretrained(tmp_path / "good")
    found = brenier("audit", tmp_path / "bad", "--steps", 6, "-o", tmp_path / "a.nc", "--figure", tmp_path / "a.png")
    assert (found.code, found.err) == (1, "")
    assert "Off (top): bad begins at sigma = 32.96" in found.out
    assert read(tmp_path / "a.nc", "audit").sizes["call"] == 6
    assert (tmp_path / "a.png").stat().st_size > 0
    shown = brenier("show", tmp_path / "a.nc")
    assert (shown.code, shown.out) == (0, found.out)
    Schedule([100, 1, 0], "euler", criterion="by hand").to_json(tmp_path / "schedule.json")
    found = brenier("audit", tmp_path / "good", "--schedule", tmp_path / "schedule.json")
    assert found.code == 0
    assert "All levels are those that were asked for" in found.out
    assert brenier("audit", tmp_path / "good", "-q") == (0, "", "")


def test_refused(brenier: Callable[..., Any], tmp_path: Path) -> None:
    brenier("audit", tmp_path).refused("is no pipeline of diffusers")
    diffusers.LCMScheduler().save_pretrained(tmp_path)
    brenier("audit", tmp_path).refused("LCMScheduler belongs to distilled models")
    brenier("audit", tmp_path, "--schedule", tmp_path / "none.json").refused("none.json", "cannot be read")
