"""Maps as curves and marks: those of Monge-Ampère flows and of semi-discrete transport, by what their figures show."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from brenier.figures.transport import OUTLINED
from brenier.page.charts import DOTS, Chart, Series, chart, line, marks, outline, series
from brenier.transport import SemiDiscrete
from brenier.transport.mongeampere import images as flows
from brenier.transport.semidiscrete import images as cells
from brenier.transport.semidiscrete.map import KINDS

POLAR = 8  # of the places on a line of a polar grid, each so many-th is kept
MEASURED = {"kl": ("KL from the target", 0), "held_kl": ("KL on unseen points", 4), "w2": ("W2 to the target", 2)}


def flow_charts(data: xr.Dataset, place: int) -> list[Chart]:
    """The map on the line and what it makes of the reference, or its points; and how it came about."""
    if "reference_points" not in data:
        return _history(data, place)
    made = _on_line(data, place) if int(data.attrs["dim"]) == 1 else _beyond_line(data, place)
    return made + _history(data, place)


def _on_line(data: xr.Dataset, place: int) -> list[Chart]:
    found = flows.line_map(data)
    curves = [line(*_thinned(found.y, found.x), "map T(y)", 0)]
    if found.quantiles is not None:
        curves.append(line(*_thinned(found.y, found.quantiles), "quantiles to quantiles", 1, "dash"))
    target, image, _ = flows.line_densities(data)
    heights = [_density(target, "target", 1, "dash"), _density(image, "image of the reference", 0)]
    made = [chart(f"map-{place}", "The map", ("y, of the reference", "x, of the target"), curves)]
    return [*made, chart(f"density-{place}", "What it makes of the reference", ("x", "density"), heights)]


def _density(found: flows.Density, name: str, colour: int, dash: str = "solid") -> Series:
    if found.counted:
        return line(found.places.repeat(2)[1:-1], found.heights.repeat(2), f"{name}, its points", colour, dash)
    return line(*_thinned(found.places, found.heights), name, colour, dash)


def _thinned(x: Any, y: Any) -> tuple[Any, Any]:
    step = -(-len(x) // (DOTS // 4))
    return x[::step], y[::step]


def _beyond_line(data: xr.Dataset, place: int) -> list[Chart]:
    points = flows.point_images(data)
    curves: list[Series] = []
    axes = ("x1", "x2")
    if points.share is None:
        grid = flows.polar_grid(data)[:, ::POLAR]
        curves.append(outline(list(grid), "image of a polar grid", 4))
    else:
        axes = (f"first principal axis ({points.share[0]:.0%} of the variance)", f"second ({points.share[1]:.0%})")
    if points.target is not None:
        curves.append(marks(points.target.T, "target", 1, size=5))
    elif "target_density" in data:
        shares = " and ".join(f"{share:.0%}" for share in flows.HELD)
        curves.append(outline(_contours(data), f"target, {shares} of its mass", 1, "dash"))
    curves.append(marks(points.image.T, "image of the reference", 0, "x", size=5))
    return [chart(f"image-{place}", "The image of the reference", axes, curves, equal=True)]


def _contours(data: xr.Dataset) -> list[Any]:
    """Lines around the highest places of the target's density, as matplotlib finds them."""
    grid = [data[name].to_numpy() for name in ("x1", "x2")]
    found = Figure().add_subplot().contour(*grid, data["target_density"].to_numpy().T, flows.contour_levels(data))
    return [part for path in found.get_paths() for part in path.to_polygons(closed_only=False)]


def _history(data: xr.Dataset, place: int) -> list[Chart]:
    over = next((name for name in ("step", "time") if name in data.dims and data.sizes[name]), None)
    if over is None:
        return []
    made: list[Chart] = []
    divergences = [
        series(data, over, name, MEASURED[name][0], MEASURED[name][1], ("solid", "dot")[k])
        for k, name in enumerate(("kl", "held_kl"))
        if name in data and data[name].dims == (over,)
    ]
    if divergences:
        unit = "KL + constant" if int(data.attrs.get("kl_constant", 0)) else "KL"
        made.append(chart(f"kl-{place}", "Relative entropy on the way", (over, unit), divergences, line=0.0))
    if "w2" in data:
        known = data.isel({over: np.flatnonzero(np.isfinite(data["w2"].to_numpy()))})
        floor = float(data.attrs.get("w2_floor", np.nan))
        level = {"line": floor} if np.isfinite(floor) else {}
        title = "W2 to the target on the way" + (", dotted its floor" if level else "")
        made.append(
            chart(f"w2-{place}", title, (over, "W2"), [series(known, over, "w2", MEASURED["w2"][0], 2)], **level)
        )
    for name, label, title, colour in (
        ("eta", "step size", "Step sizes", 4),
        ("displacement", "root mean square", "What steps move points by", 2),
        ("residual", "residual", "Residual of the equation", 2),
    ):
        if name in data and data[name].dims == (over,) and bool((data[name] > 0).any()):
            made.append(
                chart(f"{name}-{place}", title, (over, label), [series(data, over, name, label, colour)], "logy")
            )
    return made


# Semi-discrete


def coupling_charts(data: xr.Dataset, place: int) -> list[Chart]:
    """What minibatch plans pay beside the map and independent pairs, and how far they are from the map."""
    sizes = data["batch"].to_numpy()
    if len(sizes) == 0:
        return []
    costs = [series(data, "batch", "cost", "minibatch plans", 1)]
    for name, label, colour, dash in (
        ("independent_cost", "independent", 2, "dot"),
        ("map_cost", "map", 0, "solid"),
    ):
        costs.append(line(sizes, np.full(len(sizes), float(data[name])), label, colour, dash))
    apart = [series(data, "batch", "detour", "minibatch plans", 1)]
    plan = "noises and data of a plan, k"
    return [
        chart(f"costs-{place}", "What pairs pay", (plan, "mean squared distance"), costs, "logx"),
        chart(f"detours-{place}", "How far plans are from the map", (plan, "distance"), apart, "logx", "logy"),
    ]


def transport_charts(data: xr.Dataset, place: int) -> list[Chart]:
    """The map on the line with its potential; the cells of the plane; elsewhere points in projection, and masses.

    A source that was a function is not there any more: of such a map, and of one that was not fitted, the points.
    """
    if str(data.attrs["source"]) not in KINDS:
        return []
    found = SemiDiscrete.from_dataset(data)
    if found.dim == 1 and found.labels is None:
        return _steps(found, place)
    if found.dim == 2 and found.labels is None:
        return _cells(found, place)
    masses = cells.mass_errors(found)
    counts = [line(masses.edges.repeat(2)[1:-1], masses.cells.repeat(2), "cells", 0)]
    if masses.noise is not None:
        counts.append(line(masses.places, masses.noise, "noise of the draws alone", 1, "dash"))
    places, share = cells.projection(found)
    axes = (f"first principal axis ({share[0]:.0%} of the variance)", f"second ({share[1]:.0%})")
    title = f"Masses of the cells, from {masses.draws:,} draws"
    return [
        chart(f"points-{place}", "The points", axes, [_points(found, places)], equal=True),
        chart(f"masses-{place}", title, ("relative error of the mass, w/b - 1", "cells"), counts),
    ]


def _points(transport: SemiDiscrete, places: Any) -> Series:
    weights = transport.weights.cpu().numpy()
    assert transport.heights is not None  # a saved map is a fitted one
    notes = [
        f"no. {k}, weight {b:.4g}, height {h:.4g}"
        for k, (b, h) in enumerate(zip(weights, transport.heights.cpu().numpy(), strict=True))
    ]
    return marks(places.T, "points", 0, notes=notes)


def _steps(transport: SemiDiscrete, place: int) -> list[Chart]:
    x, numbers, facets = cells.cells_on_line(transport)
    values = transport.points[:, 0].double().cpu().numpy()
    edges = np.concatenate([[x[0, 0]], facets.ends[:, 0, 0], [x[-1, 0]]])
    levels = values[np.concatenate([facets.pair[:, 0], numbers[-1:]])]
    places = _thinned(np.sort(np.concatenate([x[:, 0], facets.ends[:, 0, 0]])), [])[0]
    potential = line(places, cells.potential_at(transport, places[:, None]), "u(x)", 0)
    jumps = facets.singular()
    kinks = facets.ends[jumps, 0, :]
    singular = f"{np.degrees(facets.angle[jumps].min()):.2g}° and more" if jumps.any() else ""
    curves = [line(edges.repeat(2)[1:-1], levels.repeat(2), "map x to y", 0)]
    heights = [potential]
    if jumps.any():
        lines = [np.array([[edges[k + 1], levels[k]], [edges[k + 1], levels[k + 1]]]) for k in np.flatnonzero(jumps)]
        curves.append(outline(lines, f"singular jumps: angle of {singular}", 1))
        where = (kinks[:, 0], cells.potential_at(transport, kinks))
        heights.append(marks(where, f"kinks: angle of {singular}", 1, size=8))
    source = ("x, of the source", "point y of the target")
    return [
        chart(f"map-{place}", "The map", source, curves),
        chart(f"potential-{place}", "Its potential", (source[0], "u(x)"), heights),
    ]


def _cells(transport: SemiDiscrete, place: int) -> list[Chart]:
    facets = cells.cells_in_plane(transport).facets
    singular = facets.singular()
    curves: list[Series] = []
    if transport.size <= OUTLINED:
        curves.append(outline(list(facets.ends), "edges of the cells", 4))
    if singular.any():
        angle = f"{np.degrees(facets.angle[singular].min()):.2g}°"
        steep = outline(list(facets.ends[singular]), f"singular edges: angle of {angle} and more", 1)
        steep["thin"] = False
        curves.append(steep)
    points = transport.points.double().cpu().numpy()
    made = [chart(f"cells-{place}", "Cells of the source", ("x1", "x2"), curves, equal=True)] if curves else []
    return [*made, chart(f"points-{place}", "The points", ("y1", "y2"), [_points(transport, points)], equal=True)]
