import base64
import io
import re

import numpy as np
import xarray as xr
from PIL import Image

from brenier.page.pictures import strip


def pixels(html: str) -> dict[str, np.ndarray]:
    """The images of a strip, by what they are called."""
    found = re.findall(r'base64,(\S+)" alt="(.*?)"', html)
    return {text: np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source, text in found}


def test_the_images_are_those_of_the_file(images: xr.Dataset) -> None:
    html, (moved,) = strip(images, 3)
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
    assert strip(images.assign_attrs(event_shape=[9]), 0) == ("", [])
    assert strip(images.drop_vars("posterior_mean"), 0) == ("", [])
