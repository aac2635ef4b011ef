import numpy as np
import pytest

import brenier
from brenier.page.mapped import coupling_charts, flow_charts, transport_charts
from brenier.transport.mongeampere.portrait import portrait

POINTS = np.random.default_rng(0).normal(size=(30, 2))


def titled(charts: list) -> dict:
    return {chart["title"]: {one["name"]: one for one in chart["series"]} for chart in charts}


def test_a_map_on_the_line_steps_from_point_to_point() -> None:
    points = np.array([-1.0, 0.0, 2.0])
    transport = brenier.SemiDiscrete(points).fit(progress=False)
    made = titled(transport_charts(transport.to_dataset(), 0))
    steps = made["The map"]["map x to y"]
    assert steps["y"] == [-1, -1, 0, 0, 2, 2]
    third = 0.4307  # of the normal law's mass, a third lies between this and its negative
    np.testing.assert_allclose(steps["x"], [-3, -third, -third, third, third, 3], atol=1e-3)
    potential = made["Its potential"]["u(x)"]
    slopes = np.diff(potential["y"]) / np.diff(potential["x"])
    assert {round(float(slope), 3) for slope in slopes[[0, len(slopes) // 2, -1]]} == {-1.0, 0.0, 2.0}


def test_cells_of_the_plane_have_edges_and_points_their_weights() -> None:
    transport = brenier.SemiDiscrete(POINTS).fit(0.1, progress=False)
    made = titled(transport_charts(transport.to_dataset(), 0))
    points = made["The points"]["points"]
    np.testing.assert_allclose(np.stack([points["x"], points["y"]], 1), POINTS, rtol=1e-6)
    assert points["notes"][3].startswith("no. 3, weight 0.03333, height ")
    edges = made["Cells of the source"]["edges of the cells"]
    places = np.array([[x, y] for x, y in zip(edges["x"], edges["y"], strict=True) if x is not None])
    scores = places @ POINTS.T + transport.heights.numpy()
    first, second = np.sort(scores, 1)[:, ::-1][:, :2].T
    np.testing.assert_allclose(first, second, atol=2e-2)  # two cells meet where the scores of their points are equal


def test_in_more_dimensions_masses_are_counted() -> None:
    points = np.random.default_rng(0).normal(size=(40, 3))
    transport = brenier.SemiDiscrete(points).fit(0.2, progress=False)
    made = titled(transport_charts(transport.to_dataset(), 0))
    (title,) = (title for title in made if title.startswith("Masses"))
    assert sum(made[title]["cells"]["y"][::2]) == 40


def test_a_source_that_was_a_function_is_not_drawn() -> None:
    found = brenier.SemiDiscrete(POINTS).fit(0.1, progress=False).to_dataset()
    assert transport_charts(found.assign_attrs(source="a function"), 0) == []


def test_a_flow_on_the_line_lies_on_quantiles_and_has_its_history() -> None:
    flow = brenier.MongeAmpere("normal", "four-gaussians", method="linear").fit(steps=3, progress=False)
    data = portrait(flow)
    made = titled(flow_charts(data, 0))
    exact = made["The map"]["quantiles to quantiles"]
    known = [(x, y) for x, y in zip(exact["x"], exact["y"], strict=True) if y is not None]
    assert len(known) > 50
    kl = made["Relative entropy on the way"]["KL from the target"]
    assert kl["y"] == pytest.approx([x if np.isfinite(x) else None for x in data["kl"].values])


def test_a_coupling_has_what_its_pairs_pay() -> None:
    transport = brenier.SemiDiscrete(POINTS).fit(0.1, progress=False)
    found = brenier.coupling_report(transport, batches=(2, 8), progress=False)
    made = titled(coupling_charts(found, 0))
    assert made["What pairs pay"]["minibatch plans"]["y"] == found["cost"].values.tolist()
    assert set(made["What pairs pay"]["map"]["y"]) == {float(found["map_cost"])}
    assert made["How far plans are from the map"]["minibatch plans"]["se"] == found["detour_se"].values.tolist()
    assert coupling_charts(found.isel(batch=slice(0)), 0) == []
