import base64
import io
import re

import numpy as np
import xarray as xr
from PIL import Image

import brenier
from brenier.page.pictures import drawing, strip
from brenier.reports.tables import scale


def pixels(html: str) -> dict[str, np.ndarray]:
    """The images of a strip, by what they are called."""
    found = re.findall(r'base64,(\S+)" alt="(.*?)"', html)
    return {text: np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source, text in found}


def test_the_images_are_those_of_the_file(images: xr.Dataset) -> None:
    shown_as, (moved,) = strip(images, 3)
    html = shown_as("full")
    assert moved == {"id": "strip-3", "snr": images["view_snr"].values[0].tolist()}
    shown = pixels(html)
    assert len(shown) == images.sizes["shown"] * (1 + 2 * images.sizes["view"])
    points = images["points"].values
    low, high = points.min(), points.max()
    row = int(images["row"][0])
    rank = int(images["rank"][row])
    grey = np.round(255 * (points[row].reshape(3, 3) - low) / (high - low))
    np.testing.assert_array_equal(shown[f"rank {rank}: the point"], grey)
    axis = images["component"].values[0, 1, 0].reshape(3, 3)
    there = shown[f"rank {rank}: undecided at SNR 1"].astype(float)
    np.testing.assert_allclose(there / 255, 0.5 + 0.5 * axis / abs(axis).max(), atol=0.002)


def test_points_that_are_no_images_have_none(images: xr.Dataset) -> None:
    assert strip(images.assign_attrs(event_shape=[9]), 0) == (None, [])
    assert strip(images.drop_vars("posterior_mean"), 0) == (None, [])


def test_pairs_of_an_evaluation_are_beside_each_other() -> None:
    generator = np.random.default_rng(0)
    train = generator.normal(size=(80, 4, 4))
    found = brenier.evaluate(train[:60] + 0.1, train, train=train, progress=False)
    shown_as, moved = strip(found, 0)
    html = shown_as("full")
    assert moved == []
    shown = pixels(html)
    points = found["pair_points"].values
    low, high = points.min(), points.max()
    sample, row = int(found["pair_sample"][0]), int(found["pair_train"][0])
    for name, one in ((f"sample {sample}", points[0, 0]), (f"training point {row}", points[0, 1])):
        np.testing.assert_array_equal(shown[name], np.round(255 * (one.reshape(4, 4) - low) / (high - low)))
    assert f"distance {scale(float(found['pair_distance'][0]))}" in html


def test_images_are_smaller_and_then_sentences_where_there_is_little_room(images: xr.Dataset) -> None:
    wide = {name: np.repeat(images[name].values, 1000, -1) for name in ("posterior_mean", "component")}
    points = np.repeat(images["points"].values.reshape(12, -1), 1000, -1)
    large = images.drop_vars([*wide, "points"]).assign(
        {name: (images[name].dims, values) for name, values in wide.items()} | {"points": (("sample", "pixel"), points)}
    )
    large = large.assign_attrs(event_shape=[90, 100])
    shown_as, _ = strip(large, 0)
    full, small, none = (shown_as(detail) for detail in ("full", "small", "none"))
    assert {image.shape for image in pixels(full).values()} == {(58, 64)}
    assert {image.shape for image in pixels(small).values()} == {(29, 32)}
    assert "<img" not in none
    assert "would weigh more than 6 MB" in none


def test_a_figure_has_few_colours_and_half_the_size_where_there_is_little_room() -> None:
    (shown_as,) = drawing(brenier.probe("two-points", [0.5, 1.0, 2.0], progress=False), "a <law>")
    sizes = []
    for detail in ("full", "small"):
        html = shown_as(detail)
        (source,) = re.findall(r'base64,(\S+)" width="990" height="935" alt="Figure: a &lt;law&gt;"', html)
        image = Image.open(io.BytesIO(base64.b64decode(source)))
        assert len(image.getcolors()) <= 128
        sizes.append(image.size)
    assert sizes == [(990, 935), (495, 467)]
    assert "<img" not in shown_as("none")
