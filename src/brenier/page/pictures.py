"""Images on the page: points with what a denoiser makes of them, pairs of sample and datum, and drawn figures.

    point | posterior mean | undecided: the first principal component of X given the noisy point, up to its sign

A profile of images has noisy ones, their means, what is undecided and the nearest data, which its slider moves. Where
the file of a difficulty holds images at several SNRs, a slider goes along these, and that of the profiles moves it,
too. A page has images in full, small ones, or sentences in their place, by what it may weigh.
"""

import base64
import io
from collections.abc import Callable
from html import escape
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import xarray as xr
from PIL import Image

from brenier.core.points import image_sides
from brenier.figures.difficulty import image_of
from brenier.reports.tables import number, scale

Detail: TypeAlias = Literal["full", "small", "none"]
Picture: TypeAlias = Callable[[Detail], str]  # HTML in so much detail

DPI = 110
TONES = 128  # colours of a drawn figure, which takes a third of the bytes so
LARGEST: dict[Detail, int] = {
    "full": 64,
    "small": 32,
    "none": 0,
}  # pixels to a side, past which an image is made smaller
VIEWS = {  # of a profile
    "view_noisy": "noisy",
    "view_mean": "posterior mean",
    "view_axis": "undecided",
    "view_nearest": "nearest datum",
}
LEFT_OUT = '<p class="note">{what} left out: the page would weigh more than 6 MB.</p>'


class Strip(TypedDict):
    """Images that a slider moves: the id of their place, and the SNRs."""

    id: str
    snr: list[float]


def sides_of_event(data: xr.Dataset) -> tuple[int, int] | None:
    """Height and width of the images that a result is about; None where its points are none."""
    return image_sides(_shape(data))


def _shape(data: xr.Dataset) -> list[int]:
    return [int(side) for side in np.atleast_1d(data.attrs.get("event_shape", 1))]


def strip(found: xr.Dataset, place: int) -> tuple[Picture | None, list[Strip]]:
    """The images that a difficulty or an evaluation holds, and what moves them; nothing where its points are none."""
    if sides_of_event(found) is None:
        return None, []
    if "pair_points" in found:
        return lambda detail: _pairs(found, detail), []
    if "posterior_mean" not in found:
        return None, []
    name, views = f"strip-{place}", found["view_snr"].to_numpy().astype(float)
    same = views.shape[1] > 1 and bool((views == views[0]).all())
    moved: list[Strip] = [{"id": name, "snr": views[0].tolist()}] if same else []
    return lambda detail: _points(found, name, same, detail), moved


def _points(found: xr.Dataset, name: str, same: bool, detail: Detail) -> str:
    """The hardest and the easiest points of a difficulty, with what is undecided there."""
    if detail == "none":
        return f'<div id="{name}">{LEFT_OUT.format(what="Images were")}</div>'
    shape, size = _shape(found), LARGEST[detail]
    points, means, parts, views = (
        found[name].to_numpy().astype(float) for name in ("points", "posterior_mean", "component", "view_snr")
    )
    low, high = float(points.min()), float(points.max())
    cards: list[str] = []
    for k, row in enumerate(found["row"].to_numpy().tolist()):
        rank = int(found["rank"][row])
        shown = _image(_grey(points[row], low, high), shape, f"rank {rank}: the point", size)
        for view, snr in enumerate(views[k].tolist()):
            variance, part = float(found["variance"][k, view, 0]), parts[k, view, 0]
            at = f"at SNR {scale(snr)}"
            mean = _image(_grey(means[k, view], low, high), shape, f"rank {rank}: posterior mean {at}", size)
            axis = _image(_signed(part), shape, f"rank {rank}: undecided {at}", size)
            hidden = " hidden" if view else ""
            said = f"SNR {scale(snr)}, variance {scale(variance)}"
            shown += f'<span data-view="{view}"{hidden}>{mean}{axis}<small>{escape(said)}</small></span>'
        cards.append(f'<figure class="point"><figcaption>Rank {rank}</figcaption>{shown}</figure>')
    slider = ""
    if same:
        slider = (
            f'<div class="along"><label for="{name}-snr">SNR of the images</label><input type="range" id="{name}-snr" '
            f'min="0" max="{views.shape[1] - 1}" step="1" value="0"><output for="{name}-snr"></output></div>'
        )
    return (
        f'<div class="strip" id="{name}"><h3>Hardest, then easiest: point, posterior mean, what is undecided</h3>'
        f'{slider}<div class="points">{"".join(cards)}</div></div>'
    )


def seen(profile: xr.Dataset, name: str, place: int) -> tuple[Picture | None, list[Strip]]:
    """What a profile holds of noisy images, and what moves it; nothing where it holds none."""
    if "view_snr" not in profile:
        return None, []
    snrs = profile["view_snr"].to_numpy().astype(float).tolist()
    return lambda detail: _views(profile, name, f"views-{place}", snrs, detail), [{"id": f"views-{place}", "snr": snrs}]


def _views(profile: xr.Dataset, name: str, own: str, snrs: list[float], detail: Detail) -> str:
    """At each SNR a row of images of each kind."""
    if detail == "none":
        return f'<div id="{own}">{LEFT_OUT.format(what="Images were")}</div>'
    shape, shown = _shape(profile), ""
    for view, snr in enumerate(snrs):
        rows = ""
        for variable, what in VIEWS.items():
            if variable not in profile:
                continue
            images = [image_of(one, shape) for one in profile[variable].to_numpy()[view]]
            image = _beside(images, LARGEST[detail])
            rows += (
                f'<dt>{what}</dt><dd><img src="{_source(image)}" alt="{what} at SNR {scale(snr)}" {_size(image)}></dd>'
            )
        variance = ", ".join(number(float(one)) for one in profile["view_variance"][view])
        said = f"SNR {scale(snr)}; variance of rX along what is undecided {variance}"
        hidden = " hidden" if view else ""
        shown += f'<div data-view="{view}"{hidden}><dl>{rows}</dl><small>{said}</small></div>'
    return f'<div class="strip views" id="{own}"><h3>What is seen: {escape(name)}</h3>{shown}</div>'


def _beside(images: list[Any], size: int) -> Image.Image:
    """Images of eight bits in a row, on nothing."""
    made = [Image.fromarray(np.ascontiguousarray(one)).convert("RGB") for one in images]
    for one in made:
        one.thumbnail((size, size))
    wide, tall = made[0].size
    gap = max(1, wide // 12)
    row = Image.new("RGBA", (len(made) * (wide + gap) - gap, tall))
    for k, one in enumerate(made):
        row.paste(one, (k * (wide + gap), 0))
    return row


def _pairs(found: xr.Dataset, detail: Detail) -> str:
    """The samples that are closest to training points, each beside that point."""
    if detail == "none":
        return LEFT_OUT.format(what="The closest pairs were")
    shape, size = _shape(found), LARGEST[detail]
    points = found["pair_points"].to_numpy().astype(float)
    low, high = float(points.min()), float(points.max())
    cards: list[str] = []
    for k, (one, other) in enumerate(points):
        sample, train = int(found["pair_sample"][k]), int(found["pair_train"][k])
        both = _image(_grey(one, low, high), shape, f"sample {sample}", size)
        both += _image(_grey(other, low, high), shape, f"training point {train}", size)
        apart = f"distance {scale(float(found['pair_distance'][k]))}, d1/d0 {scale(float(found['pair_closeness'][k]))}"
        title = f"Sample {sample}, training point {train}"
        both = f"<span>{both}<small>{apart}</small></span>"
        cards.append(f'<figure class="point pair"><figcaption>{title}</figcaption>{both}</figure>')
    return f'<div class="strip"><h3>The closest pairs</h3><div class="points">{"".join(cards)}</div></div>'


def drawing(result: Any, text: str) -> list[Picture]:
    """The figure of a result; none where its kind has none."""
    from brenier.figures import plot
    from brenier.figures.kinds import KINDS
    from brenier.figures.page import drawn_as

    if getattr(result, "attrs", {}).get("kind") not in KINDS:
        return []
    figure = plot(result)
    content = drawn_as(figure, ".png", dpi=DPI)
    width, height = (round(side * DPI) for side in figure.get_size_inches())

    def shown(detail: Detail) -> str:
        if detail == "none":
            return LEFT_OUT.format(what="The figure was")
        image = Image.open(io.BytesIO(content)).convert("RGB")
        if detail == "small":
            image = image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
        image = image.quantize(TONES, dither=Image.Dither.NONE)
        return (
            f'<p class="figure"><img src="{_source(image)}" width="{width}" height="{height}" '
            f'alt="Figure: {escape(text)}"></p>'
        )

    return [shown]


def _signed(part: Any) -> Any:
    """A direction as an image: grey where it is 0."""
    return 0.5 + 0.5 * part / (np.abs(part).max() or 1)


def _grey(values: Any, low: float, high: float) -> Any:
    return (values - low) / (high - low or 1)


def _image(values: Any, shape: list[int], text: str, size: int) -> str:
    """An image of values from 0 to 1, of so many pixels to a side at most."""
    image = Image.fromarray(np.uint8(np.round(255 * np.clip(image_of(values, shape), 0, 1))))
    image.thumbnail((size, size))
    return f'<img src="{_source(image)}" alt="{escape(text)}" {_size(image)}>'


def _size(image: Image.Image) -> str:
    return f'width="{image.width}" height="{image.height}"'


def _source(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
