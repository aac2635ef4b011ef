import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import brenier
from brenier.page import report as page
from brenier.page.report import report
from brenier.sampling.schedule import Schedule

EVIL = '</script><script>alert(1)</script><b onclick="x">\'&'


def inside(html: str) -> dict:
    """The numbers that a page holds."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


def plain(values: xr.DataArray) -> list:
    return np.where(np.isfinite(values), values, None).tolist()


def test_the_page_holds_the_numbers_of_the_file(profile: xr.Dataset) -> None:
    content = inside(report(profile).html)
    one = content["explorer"]["profiles"][0]
    assert content["explorer"]["grid"] == profile["snr"].values.tolist()
    for name in ("survival", "survival_se", "sigma", "time"):
        assert one[name] == plain(profile[name])
    charts = {chart["id"]: {each["name"]: each for each in chart["series"]} for chart in content["charts"]}
    assert charts["complexity"]["m*"]["y"] == plain(profile["m_star"])
    assert charts["complexity"]["m*"]["se"] == plain(profile["m_star_se"])
    assert charts["localization"]["E L"]["y"] == plain(profile["mean_localization"])
    assert charts["contraction"]["zeta*, M = 5"]["y"] == plain(profile["zeta_star"].sel(perturbation=5))
    assert content["csv"]["table-0"] == brenier.table(profile).to_csv(index=False)


def test_the_slider_begins_at_the_bottleneck_and_goes_along_all_snrs(profile: xr.Dataset, line: xr.Dataset) -> None:
    content = inside(report({"plane": profile, "line": line}).html)["explorer"]
    assert content["grid"] == sorted({*profile["snr"].values.tolist(), *line["snr"].values.tolist()})
    assert content["grid"][content["start"]] == brenier.bottleneck(profile)["snr"]
    assert content["profiles"][1]["at"] == [0, 0, 1, 2, 2, 2]  # of 0.5, 1, 3 the nearest to 0.25, 0.5, 1, 2, 3, 4


def test_names_are_escaped_everywhere(profile: xr.Dataset, line: xr.Dataset) -> None:
    schedule = Schedule([3.0, 1.0, 0.0], "heun", criterion="karras", law="law")
    html = report({EVIL: profile, f"{EVIL}2": line, f"{EVIL}3": schedule}).html
    assert "alert(1)</script>" not in html
    assert '<b onclick="x">' not in html
    assert html.count("<script") == html.count("</script>") == 3
    assert inside(html)["explorer"]["profiles"][0]["name"] == EVIL


def test_only_the_scripts_of_the_page_may_run(profile: xr.Dataset) -> None:
    html = report(profile).html
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[0]
    assert policy.startswith("default-src 'none'")
    for script in scripts:
        assert page._digest(script) in policy
    assert len(scripts) == policy.count("sha256-") == 2


def test_plotly_is_as_it_was_published() -> None:
    script = files("brenier.resources").joinpath("plotly/plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() == "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"


def test_the_same_results_make_the_same_page_and_it_weighs_little(profile: xr.Dataset, line: xr.Dataset) -> None:
    first = report([profile, line]).html
    assert first == report([profile.copy(deep=True), line]).html
    assert len(first.encode()) < 2_000_000


def test_samples_are_left_out_where_the_page_would_be_too_large(
    profile: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST", len(report(profile).html.encode()) - 1)
    one = inside(report(profile).html)["explorer"]["profiles"][0]
    assert one["localization"] is None
    assert one["survival"] == plain(profile["survival"])


def test_what_no_page_can_hold_is_refused_with_what_to_leave_out(
    profile: xr.Dataset, line: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = len(report(line).html.encode())
    fine = Schedule(np.linspace(3.0, 0.0, 40_000), "heun", criterion="karras", law="law")
    monkeypatch.setattr(page, "MOST", bare + 100_000)
    with pytest.raises(ValueError, match=r"the page would weigh .* MB .* at most: leave out 'fine', which takes"):
        report({"line": line, "fine": fine})
    with pytest.raises(ValueError, match=r"make 'fine' anew with fewer SNRs, steps or rows"):
        report({"fine": fine})
    made = report({"line": line}).html
    assert len(made.encode()) <= bare + 100_000


def test_a_schedule_is_a_section_with_its_levels() -> None:
    schedule = Schedule([3.0, 1.0, 0.0], "heun", criterion="karras", law="normal")
    html = report(schedule).html
    (chart,) = inside(html)["charts"]
    assert chart["series"][0]["y"] == [3.0, 1.0, 0.0]
    assert "explorer" not in inside(html)
    assert "heun by karras" in html


def test_an_evaluation_is_panels_and_no_picture() -> None:
    generator = np.random.default_rng(0)
    found = brenier.evaluate(generator.normal(size=(60, 2)), generator.normal(size=(60, 2)), progress=False)
    html = report({"samples": found}).html
    assert "data:image/png" not in html
    assert inside(html)["charts"][0]["title"] == "How good, how mixed, how copied"
    assert "a perfect sampler" in html


def test_a_map_of_the_plane_keeps_its_picture_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    found = brenier.SemiDiscrete(points).fit(0.2, progress=False).to_dataset()
    html = report(found).html
    assert 'src="data:image/png;base64,iVBOR' in html
    assert 'alt="Figure: ' in html
    assert len(html.encode()) < page.MOST
    monkeypatch.setattr(page, "MOST", len(html.encode()) - 1000)
    small = report(found).html
    assert 'src="data:image/png;base64,iVBOR' in small
    monkeypatch.setattr(page, "MOST", len(small.encode()) - 1000)
    none = report(found).html
    assert "data:image/png" not in none
    assert "The figure was left out: the page would weigh more than 6 MB." in none


def test_a_page_is_written_whole_and_replaces_nothing(profile: xr.Dataset, tmp_path: Path) -> None:
    made = report(profile, title="My laws")
    path = made.save(tmp_path / "page.html")
    assert path.read_text() == made.html
    assert "<title>My laws</title>" in made.html
    with pytest.raises(ValueError, match="exists"):
        made.save(path)
    with pytest.raises(ValueError, match=r"must end in \.html"):
        made.save(tmp_path / "page.txt")
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_notebook_shows_the_page_in_a_frame(line: xr.Dataset) -> None:
    shown = report(line)._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<script" not in shown
    assert repr(report(line)).startswith("<page of 1.")


@pytest.mark.parametrize(("given", "words"), [([], "at least one"), ({"a": 3}, "'a' is no result but a int")])
def test_what_is_no_result_is_refused(given: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        report(given)
