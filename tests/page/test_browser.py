"""The page in a real browser: what the slider moves, read from the page, and that nothing leaves it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import brenier
from brenier.page.report import report
from brenier.reports.profile import columns
from brenier.sampling.schedule import Schedule

Show = Callable[..., Any]
CURVE = "id => { const one = document.getElementById(id).data.at(-1); return [[...one.x], [...one.y], [...one.text]]; }"
ROWS = "[...document.querySelectorAll('#now tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
AXE = "axe.run().then(found => found.violations.map(one => [one.id, one.impact, one.nodes[0].html]))"


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens a page from disk; at the end, nothing was complained of and nothing but the file was asked for."""
    said: list[str] = []
    asked: list[str] = []
    contexts: list[Any] = []

    def opened(results: Any, **options: Any) -> Any:
        path = report(results).save(tmp_path / "page.html", force=True)
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.dataset.ready")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {address for address in asked if not address.startswith(("data:", "blob:"))} <= {
        (tmp_path / "page.html").as_uri()
    }


def test_the_slider_moves_the_panels_to_the_values_of_the_file(show: Show, profile: xr.Dataset) -> None:
    page = show(profile)
    page.focus("#snr")
    page.keyboard.press("Home")
    for row, snr in enumerate(profile["snr"].values):
        u, survival, _ = page.evaluate(CURVE, "survival")
        assert u == profile["u"].values.tolist()
        assert survival == profile["survival"].values[row].tolist()
        bars = page.evaluate("document.getElementById('sample').data[0].y.slice()")
        assert sum(bars) == pytest.approx(1)
        edges = page.evaluate("document.getElementById('sample').data[0].x.slice()")
        width = edges[1] - edges[0]
        logs = np.log10(np.maximum(profile["localization"].values[row].astype("f4"), 1e-4).astype(float))
        expected = [np.mean((logs >= x - width / 2) & (logs < x + width / 2)) for x in edges]
        assert bars == pytest.approx(expected, abs=1.01 / profile.sizes["query"])  # one query on an edge
        now = page.evaluate(ROWS)
        for (title, cell), column in zip(now, columns(profile), strict=True):
            assert (title, cell) == (column.title, (column.detailed or column.plain)[row].strip())
        assert page.get_attribute("tr[aria-current]", "id") == f"row-0-{row}"
        line = page.evaluate("document.getElementById('complexity').layout.shapes.at(-1).x0")
        assert line == snr
        assert f"r = {snr:.4g}" in page.inner_text("#where")
        assert page.get_attribute("#snr", "aria-valuetext") == page.inner_text("#where")
        page.keyboard.press("ArrowRight")


def test_the_slider_moves_the_images_that_a_file_holds(show: Show, profile: xr.Dataset, images: xr.Dataset) -> None:
    page = show({"plane": profile, "images": images})
    page.focus("#snr")
    page.keyboard.press("Home")
    views = images["view_snr"].values[0]
    for snr in profile["snr"].values:
        view = int(np.abs(np.log(views / snr)).argmin())
        shown = page.locator(".point [data-view]:visible")
        assert shown.count() == images.sizes["shown"]
        assert shown.first.get_attribute("data-view") == str(view)
        assert page.input_value("#strip-0-snr") == str(view)
        page.keyboard.press("ArrowRight")
    page.focus("#strip-0-snr")
    page.keyboard.press("Home")
    assert page.inner_text("#strip-0 output") == f"r = {views[0]:.4g}"
    assert page.locator('.point [data-view="0"]').first.is_visible()
    assert page.locator(".point img").first.evaluate("one => one.naturalWidth") == 3


def test_the_slider_moves_the_noisy_images_of_a_profile(show: Show) -> None:
    digits = brenier.probe("digits", [0.2, 1.0, 4.0], queries=8, about="atoms", views=3, progress=False)
    page = show(digits)
    page.focus("#snr")
    page.keyboard.press("Home")
    for snr in (0.2, 1.0, 4.0):
        shown = page.locator("#views-0 [data-view]:visible")
        assert shown.count() == 1
        assert shown.locator("img").evaluate_all("all => all.map(one => one.alt)") == [
            f"{what} at SNR {snr:g}" for what in ("noisy", "posterior mean", "undecided", "nearest datum")
        ]
        assert page.locator("#views-0 img").first.evaluate("one => [one.naturalWidth, one.naturalHeight]") == [26, 8]
        page.keyboard.press("ArrowRight")


def test_hover_says_the_value_with_its_error(show: Show, profile: xr.Dataset) -> None:
    page = show(profile)
    k = 2
    page.locator("#complexity").scroll_into_view_if_needed()
    page.locator("#complexity .trace").nth(1).locator(".point").nth(k).hover(force=True)
    text = page.locator("#complexity .hovertext").text_content()
    value, error = (float(profile[name][k]) for name in ("m_star", "m_star_se"))
    assert f"m* {value:.4g} ± {error:.4g}" in text


def test_panels_of_other_results_say_values_with_intervals_and_are_copied(show: Show, plane: xr.Dataset) -> None:
    page = show({"samples": plane}, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#share-0").scroll_into_view_if_needed()
    page.locator("#share-0 .trace").first.locator(".point").first.hover(force=True)
    said = page.locator("#share-0 .hovertext").text_content()
    one = plane.sel(metric="precision")
    value, low, high = (float(f"{float(one[name]):.4g}") for name in ("value", "low", "high"))
    assert f"samples {value:g} ({low:g} to {high:g})" in said
    assert "precision" in said
    page.click('[data-copies="share-0"]')
    page.get_by_text("Copied.", exact=True).wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0] == "series,95% intervals,of,standard error,low,high"
    name, copied, row, _, least, most = lines[1].split(",")
    assert (name, row) == ("samples", "precision")
    assert [float(x) for x in (copied, least, most)] == [float(one[key]) for key in ("value", "low", "high")]


def test_after_printing_panels_have_the_width_of_the_window_again(show: Show, plane: xr.Dataset) -> None:
    page = show({"samples": plane}, viewport={"width": 1200, "height": 900})
    page.emulate_media(media="print")
    page.locator(".plot:not([data-drawn])").wait_for(state="detached")
    page.emulate_media(media="screen")
    fits = "box => box.querySelector('.main-svg').clientWidth <= box.clientWidth"
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(f"[...document.querySelectorAll('.plot')].every({fits})")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_series_are_switched_and_copied(show: Show, profile: xr.Dataset) -> None:
    page = show(profile, permissions=["clipboard-read", "clipboard-write"])
    key = page.locator('[data-of="complexity"] button').first
    assert key.get_attribute("aria-pressed") == "true"
    key.focus()
    page.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.getElementById('complexity').data.filter(one => one.visible).length") == 1 + (
        "delta_star_se" in profile
    )
    page.click('[data-copies="table-0"]')
    page.get_by_text("Copied.", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == brenier.table(profile).to_csv(index=False)
    page.click('[data-copies="complexity"]')
    page.wait_for_timeout(200)
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(lines) == 1 + 2 * profile.sizes["snr"]
    name, snr, value, error, _, _ = lines[3].split(",")
    assert (name, float(snr)) == ("m*", float(profile["snr"][2]))
    assert (float(value), float(error)) == (float(profile["m_star"][2]), float(profile["m_star_se"][2]))


@pytest.mark.parametrize("width", [360, 1280, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_in_light_and_dark(
    show: Show, profile: xr.Dataset, line: xr.Dataset, width: int, scheme: str
) -> None:
    schedule = Schedule([3.0, 1.0, 0.0], "heun", criterion="karras", law="law")
    results = {"a_very_long_name_" * 8: profile, "line": line, "steps": schedule}
    page = show(results, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    dark = [sum(map(int, colour[4:-1].split(", "))) < 3 * 128 for colour in (paper, ink)]
    assert dark == ([False, True] if scheme == "light" else [True, False])
    page.locator("#survival").scroll_into_view_if_needed()
    page.locator("#survival .main-svg").first.wait_for()
    assert page.evaluate("document.getElementById('survival').layout.font.color") == (
        "#1b1b1f" if scheme == "light" else "#ececf1"
    )


def test_names_run_no_script(show: Show, profile: xr.Dataset, line: xr.Dataset) -> None:
    evil = "</script><script>window.caught=1</script><img src=x onerror=window.caught=1><a href='javascript:1'>b</a>"
    page = show({evil: profile, f"{evil}2": line})
    assert page.evaluate("window.caught") is None
    assert page.locator("main img, main a").count() == 0
    assert page.inner_text("#name-0") == evil


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    show: Show, axe: str, profile: xr.Dataset, line: xr.Dataset, images: xr.Dataset, plane: xr.Dataset, scheme: str
) -> None:
    schedule = Schedule([3.0, 1.0, 0.0], "heun", criterion="karras", law="law")
    results = {"plane": profile, "line": line, "steps": schedule, "images": images, "samples": plane}
    page = show(results, color_scheme=scheme)
    page.evaluate(axe)
    found = page.evaluate(AXE)
    assert [one for one in found if one[1] in ("serious", "critical")] == []


def test_it_prints_every_panel_in_light_colours(show: Show, profile: xr.Dataset) -> None:
    page = show(profile, color_scheme="dark", viewport={"width": 800, "height": 300})
    page.emulate_media(media="print")
    page.locator(".plot:not([data-drawn])").wait_for(state="detached")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"
