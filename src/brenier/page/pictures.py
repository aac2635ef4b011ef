"""Images on the page: the hardest and easiest points, what a denoiser makes of them, and what is undecided there.

    point | posterior mean | undecided: the first principal component of X given the noisy point, up to its sign

Where the file holds them at several SNRs, a slider goes along these, and that of the profiles moves it, too.
"""

import base64
import io
from html import escape
from typing import Any, TypedDict

import numpy as np
import xarray as xr
from PIL import Image

from brenier.figures.difficulty import image_of, sides_of
from brenier.reports.tables import scale

LARGEST = 64  # pixels to a side, past which an image is made smaller


class Strip(TypedDict):
    """Images that a slider moves: the id of their place, and the SNRs."""

    id: str
    snr: list[float]


def strip(found: xr.Dataset, place: int) -> tuple[str, list[Strip]]:
    """The images that a difficulty holds, as HTML, and what moves them; nothing where its points are no images."""
    shape = [int(side) for side in np.atleast_1d(found.attrs.get("event_shape", 1))]
    if "posterior_mean" not in found or sides_of(shape) is None:
        return "", []
    points, means, parts, views = (
        found[name].to_numpy().astype(float) for name in ("points", "posterior_mean", "component", "view_snr")
    )
    low, high = float(points.min()), float(points.max())
    cards: list[str] = []
    for k, row in enumerate(found["row"].to_numpy().tolist()):
        rank = int(found["rank"][row])
        shown = _image(_grey(points[row], low, high), shape, f"rank {rank}: the point")
        for view, snr in enumerate(views[k].tolist()):
            variance = float(found["variance"][k, view, 0])
            mean = _image(_grey(means[k, view], low, high), shape, f"rank {rank}: posterior mean at SNR {scale(snr)}")
            part = parts[k, view, 0]
            axis = _image(
                0.5 + 0.5 * part / (np.abs(part).max() or 1), shape, f"rank {rank}: undecided at SNR {scale(snr)}"
            )
            hidden = " hidden" if view else ""
            said = f"SNR {scale(snr)}, variance {scale(variance)}"
            shown += f'<span data-view="{view}"{hidden}>{mean}{axis}<small>{escape(said)}</small></span>'
        cards.append(f'<figure class="point"><figcaption>Rank {rank}</figcaption>{shown}</figure>')
    name = f"strip-{place}"
    same = views.shape[1] > 1 and bool((views == views[0]).all())
    slider = ""
    if same:
        slider = (
            f'<div class="along"><label for="{name}-snr">SNR of the images</label><input type="range" id="{name}-snr" '
            f'min="0" max="{views.shape[1] - 1}" step="1" value="0"><output for="{name}-snr"></output></div>'
        )
    html = (
        f'<div class="strip" id="{name}"><h3>Hardest, then easiest: point, posterior mean, what is undecided</h3>'
        f'{slider}<div class="points">{"".join(cards)}</div></div>'
    )
    return html, [{"id": name, "snr": views[0].tolist()}] if same else []


def _grey(values: Any, low: float, high: float) -> Any:
    return (values - low) / (high - low or 1)


def _image(values: Any, shape: list[int], text: str) -> str:
    """An image of values from 0 to 1."""
    image = Image.fromarray(np.uint8(np.round(255 * np.clip(image_of(values, shape), 0, 1))))
    image.thumbnail((LARGEST, LARGEST))
    content = io.BytesIO()
    image.save(content, "PNG")
    source = base64.b64encode(content.getvalue()).decode()
    return f'<img src="data:image/png;base64,{source}" alt="{escape(text)}">'
