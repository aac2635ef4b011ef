import io

import pytest
import xarray as xr

import brenier
from brenier.reports.markup import Recorder, table_html
from brenier.reports.tables import grid, say


@pytest.fixture
def profile() -> xr.Dataset:
    return brenier.probe("two-points", [0.5, 1.0, 2.0], progress=False)


def test_a_summary_is_text_and_html_in_a_notebook(profile: xr.Dataset) -> None:
    found = brenier.summary(profile)
    assert isinstance(found, str)
    html = found._repr_html_()
    assert html.count("<tr") == 1 + 3  # titles, and a row for each SNR
    assert '<th scope="row">0.5</th>' in html
    assert "Denoising is hardest" in html.rpartition("</table>")[2]
    assert "Denoising is hardest" in found


def test_what_is_printed_is_kept_and_escaped() -> None:
    console = Recorder(file=io.StringIO(), width=80)
    say("a <b> & [red]c[/]", console)
    console.print("[red]d[/]")
    console.print()
    console.print(grid(["<i>"], [["1 < 2"]], ["bold"]))
    first, second, third = (block.html() for block in console.blocks)
    assert first == "<p>a &lt;b&gt; &amp; [red]c[/]</p>"
    assert second == "<p>d</p>"
    assert '<th scope="col">&lt;i&gt;</th>' in third
    assert '<tr class="bold"><th scope="row">1 &lt; 2</th></tr>' in third


def test_rows_and_regions_have_names() -> None:
    html = table_html(grid(["a", "b"], [["1", "2"], ["3", "4"]]), 'it"s', "row-")
    assert 'role="region" tabindex="0" aria-label="it&quot;s"' in html
    assert '<tr id="row-1"><th scope="row">3</th><td>4</td></tr>' in html
