"""What is no profile as curves and marks: for each kind of result the panels that its figure has, with their numbers.

Values that a figure would make of a map are made here by the same functions, those of `transport`'s `images`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from brenier.figures.evaluation import SHARES
from brenier.metrics.verdicts import WORDS
from brenier.page import mapped
from brenier.page.charts import DASHES, DOTS, SYMBOLS, Chart, Series, chart, line, marks, numbers, rows, series
from brenier.page.pictures import sides_of_event
from brenier.probing.verdicts import CHECKS, PURPOSES, VERDICTS, deviations

SNR, TIME = "SNR r", "Ornstein–Uhlenbeck time t"
CALL, LEVEL = "call of the network", "noise level sigma"
ROWS = {  # of a calibration
    "excess": "excess",
    "balance": "balance",
    "directional": "top direction",
    "dependence": "halves",
    "asymmetry": "symmetry",
    "negative": "positivity",
}
SPLITS = {"predicted": "by predicted error", "outlying": "by |D - E D|", "moved": "by |x - D|"}
LOOKS = {"good": (0, "circle"), "fair": (5, "diamond"), "poor": (1, "x"), "undecided": (4, "circle-open")}
MEASURED = {  # of a difficulty
    "integral_localization": "integral of L",
    "max_localization": "largest L",
    "integral_trace": "integral of the trace",
    "dimension": "dimension (FLIPD)",
    "mean_distance": "to the mean",
    "nearest_distance": "to the nearest",
    "neighbour_distance": "to the 5th nearest",
    "noise_norm": "length of noise",
    "log_density": "log density",
}
INTEGRAL = "integral of L over log r"
CONTROLS = {"held-out": "held-out points", "leave-one-out": "training points among each other"}
NOISES = ("w2_chain", "w2_backward")  # of a chain, in the unit of the data


def _values(data: xr.Dataset, name: str) -> Any:
    return data[name].to_numpy().astype(np.float64)


def _schedule(data: xr.Dataset, place: int) -> list[Chart]:
    data = data.assign_coords(level=np.arange(data.sizes["level"]))
    levels = chart(
        f"levels-{place}", "Noise levels", ("level", "sigma"), [series(data, "level", "sigma", "sigma", 0)], "logy"
    )
    if "predicted_error" not in data:
        return [levels]
    shares = series(data, "level", "predicted_error", "predicted error", 1)
    title = "Share of each step in the predicted end error"
    return [levels, chart(f"shares-{place}", title, ("level", "error"), [shares])]


def _comparison(data: xr.Dataset, place: int) -> list[Chart]:
    made: list[Chart] = []
    for name, title in (("rms", "RMS distance to the end point"), ("w2", "W2 to the law")):
        for solver in data["solver"].to_numpy().tolist():
            part = data.sel(solver=solver)
            curves: list[Series] = []
            for k, criterion in enumerate(data["criterion"].to_numpy().tolist()):
                own = part.sel(criterion=criterion)
                if bool((own[name] > 0).any()):
                    one = series(own, "evaluations", name, criterion, k % 6, DASHES[k // 6 % 3])
                    one["bar"] = True
                    curves.append(one)
            if curves:
                axes = ("evaluations of the denoiser per sample", title)
                made.append(chart(f"{name}-{len(made)}-{place}", f"{solver}: {title}", axes, curves, "logy"))
    return made


def _chain(data: xr.Dataset, place: int) -> list[Chart]:
    names = {"w2_forward": "mu, nu: there", "w2_backward": "mu, nubar: back", "w2_chain": "mubar, nubar: back"}
    names |= {"w2_discretisation": "mu, mubar: the steps alone"}
    apart = [series(data, "time", name, label, k, DASHES[k]) for k, (name, label) in enumerate(names.items())]
    time = "time t" if "potential" in data.attrs else TIME
    made = [chart(f"chain-{place}", "W2 along the way", (time, "W2"), apart, "logy")]
    for name, title, y, measured, logs in (
        ("rate", "Growth rate on the way back", "rate of W2(mubar, nubar) squared", "rate", ()),
        ("bound", "Gap on the way back, and what theory allows", "W2(mubar, nubar)", "w2_chain", ("logy",)),
    ):
        curves = [series(data, "time", measured, "measured", 4), _worst(data, f"{name}_worst")]
        for k, richness in enumerate(data["perturbation"].to_numpy().tolist()):
            for kind, label, dash in (("star", "zeta*", "dash"), ("sharp", "sharp", "dot")):
                part = data.sel(perturbation=richness)
                one = series(part, "time", f"{name}_{kind}", f"by {label}, M = {richness:g}", k, dash, off=k > 0)
                curves.append(one)
        zero = {"line": 0.0} if name == "rate" else {}
        if f"{name}_local" in data:
            curves.append(series(data, "time", f"{name}_local", "worst where the laws lie", 2, "dashdot"))
        made.append(chart(f"{name}-{place}", title, (time, y), curves, *logs, **zero))
    if "contraction" in data:
        curves = [series(data, "time", "contraction", "measured", 0)]
        least = float(np.asarray(data.attrs["convexity"], dtype=float)[0])
        axes = (time, "contraction rate of W2(mu, nu)")
        made.append(chart(f"chain-c-{place}", "Contraction on the way there, and lambda", axes, curves, line=least))
    if "mean_localization" in data:
        curves = [
            series(data, "time", f"{name}_localization", f"{name} L", k, DASHES[k])
            for k, name in enumerate(("mean", "sup"))
        ]
        made.append(chart(f"chain-l-{place}", "Localization", (time, "L"), curves, "logy", line=1.0))
    if "kl_backward" in data:
        curves = [
            series(data, "time", f"{kind}_{way}", f"{kind.upper()} {label}", k, dash)
            for kind, dash in (("kl", "solid"), ("tv", "dot"))
            for k, (way, label) in enumerate(
                {"forward": "mu, nu", "backward": "mu, nubar", "chain": "mubar, nubar"}.items()
            )
            if f"{kind}_{way}" in data
        ]
        made.append(
            chart(
                f"chain-kl-{place}", "Relative entropy (KL) and total variation (TV)", (time, "KL, TV"), curves, "logy"
            )
        )
    if "w2_error" in data:
        curves = [
            series(data, "time", "w2_error", "measured", 1),
            series(data, "time", "w2_error_predicted", "to first order", 0, "dash"),
        ]
        made.append(
            chart(
                f"chain-e-{place}",
                "What the score's error does",
                (time, "W2 with the error and without"),
                curves,
                "logy",
            )
        )
    return made


def _worst(data: xr.Dataset, name: str) -> Series:
    return series(data, "time", name, "by the worst curvature", 5, "dashdot", off=True)


def _audit(data: xr.Dataset, place: int) -> list[Chart]:
    data = data.assign_coords(call=_values(data, "call") + 1)
    names = [name for name in ("requested", "told", "executed") if bool(data[name].notnull().any())]
    looks = {"requested": (2, "dot"), "told": (1, "dash"), "executed": (0, "solid")}
    levels = [series(data, "call", name, name, *looks[name]) for name in names]
    made = [chart(f"audit-{place}", "Noise levels visited", (CALL, LEVEL), levels, "logy")]
    if bool(data["size"].notnull().any()):
        size = series(data, "call", "size", "size", 3)
        title = "Size of what the network sees, over what it should be"
        near = {"range": [0.95, 1.05]} if float(abs(data["size"] - 1).max()) < 0.05 else {}
        made.append(chart(f"size-{place}", title, (CALL, "size"), [size], line=1.0, **near))
    return made


# Evaluations


def _evaluation(data: xr.Dataset, place: int) -> list[Chart]:
    known = [str(name) for name in data["metric"].to_numpy()]
    shares = [name for name in known if name in SHARES]
    others = [name for name in known if name not in SHARES and float(data["low"].sel(metric=name)) > 0]
    made: list[Chart] = []
    for key, title, x, names, logs in (
        ("share", "How good, how mixed, how copied", "95% intervals", shares, ()),
        ("far", "How far", "95% intervals; units differ", others, ("logx",)),
    ):
        words = [WORDS.get(name, name).strip() for name in names]
        part = data.sel(metric=names)
        curves = [rows(words, [_values(part, one) for one in ("value", "low", "high")], "samples", 0)]
        if bool(part["control"].notnull().any()):
            ends = [_values(part, f"control{end}") for end in ("", "_low", "_high")]
            curves.append(rows(words, ends, "a perfect sampler", 1))
        if names:
            made.append(chart(f"{key}-{place}", title, (x, ""), curves, *logs, rows=words))
    if "closeness" in data:
        own = CONTROLS[str(data.attrs["memorisation_control"])]
        curves = [
            _distribution(data, "closeness", "samples", 0),
            _distribution(data, "control_closeness", own, 1, "dash"),
        ]
        axes = ("relative distance d1/d0 to the training data", "share of points below")
        last = max(
            1.2, *(float(np.nanquantile(_values(data, name), 0.95)) for name in ("closeness", "control_closeness"))
        )
        title = "How close to the training data"
        made.append(chart(f"close-{place}", title, axes, curves, beyond=1.0, across=[0.0, last]))
    return made + _pairs(data, place)


def _distribution(data: xr.Dataset, name: str, label: str, colour: int, dash: str = "solid") -> Series:
    x = np.sort(_values(data, name))
    x = x[np.isfinite(x)]
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), DOTS // 4)).round().astype(int))
    return line(x[kept], (kept + 1) / len(x), label, colour, dash)


def _pairs(data: xr.Dataset, place: int) -> list[Chart]:
    """The closest pairs: in the plane where they are, elsewhere how close; images have a strip."""
    if "pair_points" not in data or sides_of_event(data) is not None:
        return []
    title = "The closest pairs: sample and nearest training point"
    points = _values(data, "pair_points")
    notes = [f"no. {k}" for k in data["pair_sample"].to_numpy()], [f"no. {k}" for k in data["pair_train"].to_numpy()]
    if points.shape[2] == 2:
        curves = [
            marks(_values(data, "cloud").T, "other training points", 4, size=3),
            marks(points[:, 0].T, "sample", 0, notes=notes[0], size=9),
            marks(points[:, 1].T, "training point", 1, "square-open", notes=notes[1], size=11),
        ]
        return [chart(f"pairs-{place}", title, ("x1", "x2"), curves, equal=True)]
    close = marks((np.arange(1, len(points) + 1), _values(data, "pair_closeness")), "d1/d0", 0, notes=notes[0], size=9)
    return [chart(f"pairs-{place}", title, ("pair", "distance over the neighbour's own"), [close])]


# Calibrations


def _calibration(data: xr.Dataset, place: int) -> list[Chart]:
    found, snr = deviations(data), _values(data, "snr")
    unit = int(data.attrs["dim"]) / data["snr"] ** 2
    names = ("denoising_error", "predicted", "denoising_error_se", "predicted_se")
    shares = data.assign({name: data[name] / unit for name in names})
    fair, poor = float(data.attrs["fair"]), float(data.attrs["poor"])
    labels = {"denoising_error": "error E|X - D|^2", "predicted": "predicted, sigma^2 E tr J"}
    errors = [series(shares, "snr", name, label, k, DASHES[k]) for k, (name, label) in enumerate(labels.items())]
    ratios = [
        series(data, "snr", name, label, k, DASHES[k])
        for k, (name, label) in enumerate({"balance": "all directions", "directional": "top direction"}.items())
    ]
    halves = [series(data, "snr", "excess", "excess", 4, "dashdot")]
    for k, feature in enumerate(data["feature"].to_numpy().tolist()):
        one = data.sel(feature=feature)
        halves.append(series(one, "snr", "contrast", f"halves {SPLITS[str(feature)]}", k, DASHES[k]))
    symmetry: list[Series] = []
    for k, (name, label) in enumerate({"asymmetry": "antisymmetric part", "negative": "negative directions"}.items()):
        value, se = found[name]
        one = line(snr, value, label, k, DASHES[k])
        one["se"] = numbers(se)
        symmetry.append(one)
    apart = (
        ("balance", "Balance: predicted over true error", "ratio", ratios, {"line": 1.0}),
        ("halves", "Halves of equal predicted error, and excess", "share of the error", halves, {"line": 0.0}),
        ("symmetry", "Symmetry and positivity of the Jacobian", "share", symmetry, {}),
    )
    made = [_verdicts(data, place)]
    made.append(chart(f"error-{place}", "Error over d sigma^2", (SNR, "error"), errors, "logx", "logy", snr=True))
    for name, title, y, curves, level in apart:
        zones = _zones(level.get("line", 0.0), fair, poor)
        made.append(chart(f"{name}-{place}", title, (SNR, y), curves, "logx", zones=zones, snr=True, **level))
    return made


def _zones(centre: float, fair: float, poor: float) -> list[list[float]]:
    """Where a number is fair, and where it is poor, which is darker; to both sides."""
    return [
        [centre + sign * near, centre + sign * far]
        for sign in (-1, 1)
        for near, far in ((fair, poor), (poor, 1e3), (poor, 1e3))
    ]


def _verdicts(data: xr.Dataset, place: int) -> Chart:
    names = [*PURPOSES, *(ROWS[check] for check in CHECKS)]
    codes = np.vstack([*(data[f"verdict_{purpose}"].to_numpy() for purpose in PURPOSES), data["level"].to_numpy()])
    found = deviations(data)
    said = [[""] * data.sizes["snr"] for _ in PURPOSES]
    said += [[f"deviates by {100 * value:.3g}%" for value in found[check][0]] for check in CHECKS]
    snr = _values(data, "snr")
    curves: list[Series] = []
    for code, verdict in enumerate(VERDICTS):
        places = np.argwhere(codes == code)
        if len(places):
            where = (snr[places[:, 1]], np.array(names, dtype=object)[places[:, 0]])
            symbol, notes = LOOKS[verdict][1], [said[row][k] for row, k in places]
            curves.append(marks(where, verdict, LOOKS[verdict][0], symbol, notes=notes, size=11))
    return chart(f"verdicts-{place}", "Verdicts", (SNR, ""), curves, "logx", rows=names, snr=True)


# Difficulties


def _difficulty(data: xr.Dataset, place: int) -> list[Chart]:
    order = np.argsort(data["rank"].to_numpy())
    tenth = max(1, len(order) // 10)
    middle = order[(len(order) - tenth) // 2 :][:tenth]
    way, snr = _values(data, "localization"), _values(data, "snr")
    tenths = (("hardest tenth", order[:tenth]), ("middle tenth", middle), ("easiest tenth", order[-tenth:]))
    ways = [line(snr, way[:, chosen].mean(1), name, (1, 2, 0)[k], DASHES[k]) for k, (name, chosen) in enumerate(tenths)]
    made = [chart(f"ways-{place}", "Localization on the way", (SNR, "L"), ways, "logx", line=1.0, snr=True)]
    hard, notes = _values(data, "integral_localization"), [f"no. {k}" for k in range(len(order))]
    if "error" in data:
        error = _values(data, "error")
        worst = np.zeros(len(error), dtype=bool)
        worst[np.argsort(-error, kind="stable")[: round(len(error) / 10)]] = True
        curves = [
            marks((hard[part], error[part]), name, k, SYMBOLS[3 * k], notes=[notes[j] for j in np.flatnonzero(part)])
            for k, (name, part) in enumerate({"point": ~worst, "worst tenth": worst}.items())
        ]
        axes = (INTEGRAL, "distance to the flow's end")
        made.append(chart(f"against-{place}", "Does it tell of the error?", axes, curves, "logy"))
    if "rho" in data:
        names = [MEASURED[str(name)] for name in data["measure"].to_numpy()]
        curves = [
            rows(names, [_values(data, key + end) for end in ("", "_low", "_high")], label, k)
            for k, (key, label) in enumerate({"rho": "Spearman's correlation", "auc": "area under the curve"}.items())
        ]
        title = "What tells of the error, and of its worst tenth?"
        made.append(
            chart(
                f"tells-{place}",
                title,
                ("correlation, area: 1 tells all", ""),
                curves,
                rows=names,
                beyond=0.0,
            )
        )
    points = _values(data, "points").reshape(len(order), -1)
    if points.shape[1] == 2:
        dots = marks(points.T, "point", 0, notes=notes, size=8)
        dots["shades"], dots["shaded"] = numbers(hard[:: -(-len(hard) // DOTS)]), INTEGRAL
        made.append(chart(f"where-{place}", "Where the hard points lie", ("x1", "x2"), [dots], equal=True))
    elif points.shape[1] == 1:
        made.append(
            chart(
                f"where-{place}",
                "Where the hard points lie",
                ("place", INTEGRAL),
                [marks((points[:, 0], hard), "point", 0, notes=notes)],
            )
        )
    else:
        falling = np.argsort(-hard, kind="stable")
        one = marks((np.arange(1, len(hard) + 1), hard[falling]), "point", 0, notes=[notes[k] for k in falling])
        made.append(chart(f"where-{place}", "Difficulty, sorted", ("rank", INTEGRAL), [one]))
    return made


CHARTS: dict[str, Callable[[xr.Dataset, int], list[Chart]]] = {
    "schedule": _schedule,
    "comparison": _comparison,
    "chain": _chain,
    "audit": _audit,
    "evaluation": _evaluation,
    "calibration": _calibration,
    "difficulty": _difficulty,
    "flow": mapped.flow_charts,
    "transport": mapped.transport_charts,
    "coupling": mapped.coupling_charts,
}
