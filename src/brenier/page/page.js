"use strict";
// Draws the charts that the page holds, and ties them to the slider along the SNR. It computes nothing but places.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const explorer = data.explorer;
  const charts = new Map(data.charts.map((chart) => [chart.id, chart]));
  const byId = (id) => document.getElementById(id);
  const colour = (k) => getComputedStyle(document.documentElement).getPropertyValue(`--c${k % 6}`).trim();
  const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const short = (x) => (x === null || x === undefined ? "-" : Number(x.toPrecision(4)).toString());
  const safe = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const clear = (hex) => hex + "33"; // a fifth of the ink
  const still = { displayModeBar: false, responsive: true, scrollZoom: false };
  let at = 0; // the place on the slider

  const ends = (one, [least, most]) => {
    if (one.low) return [one.low, one.high];
    if (!one.se) return null;
    const ends = (sign) => one.y.map((y, k) => (y === null || one.se[k] === null ? y : Math.min(Math.max(y + sign * 2 * one.se[k], least), most)));
    return [ends(-1), ends(1)];
  };

  const saying = (one, chart) => one.x.map((place, k) => {
    const doubt = one.low ? ` (${short(one.low[k])} to ${short(one.high[k])})` : one.se ? ` ± ${short(one.se[k])}` : "";
    const named = typeof one.y[k] === "string"; // a row, whose value lies across
    const further = (one.notes && one.notes[k] ? `<br>${safe(one.notes[k])}` : "") + (one.shades ? `<br>${safe(one.shaded)} ${short(one.shades[k])}` : "");
    const [value, where] = named ? [short(place) + doubt, safe(one.y[k])] : [short(one.y[k]) + doubt, `${safe(chart.x)} ${typeof place === "string" ? safe(place) : short(place)}`];
    return `<b>${safe(one.name)}</b> ${value}<br>${where}${further}`;
  });

  const marker = (one, own) => ({ size: one.size ?? 5, color: one.shades ?? own, symbol: one.symbol ?? "circle", opacity: one.symbol && one.x.length > 200 ? 0.7 : 1,
    ...(one.shades && { colorscale: "Viridis", showscale: true, colorbar: { title: { text: safe(one.shaded), side: "right" }, thickness: 10, outlinewidth: 0 } }) });

  // Intervals of one row lie one under the other.
  const beside = (one, chart) => (one.low ? 0.26 * (chart.series.indexOf(one) - (chart.series.length - 1) / 2) : 0);

  // The traces of a series: its band, where it has one, and its curve.
  const traces = (one, chart) => {
    const own = colour(one.colour);
    const visible = !one.off;
    const y = chart.rows ? one.y.map((row) => chart.rows.indexOf(row) + beside(one, chart)) : chart.logy ? one.y.map((value) => (value > 0 ? value : null)) : one.y; // zero has no place there
    const curve = { x: one.x, y, name: safe(one.name), mode: one.symbol ? "markers" : one.thin || one.x.length > 60 ? "lines" : "lines+markers",
      line: { color: own, dash: one.dash, width: one.thin ? 1 : 2 }, marker: marker(one, own), visible, opacity: one.thin ? 0.5 : 1,
      text: one.thin ? undefined : saying(one, chart), hoverinfo: one.thin ? "skip" : undefined,
      hovertemplate: one.thin ? undefined : "%{text}<extra></extra>", connectgaps: false };
    if (chart.rows && one.low) { // intervals lie along the rows
      curve.error_x = { type: "data", symmetric: false, color: own, thickness: 1.5, width: 4,
        array: one.high.map((x, k) => (x === null || one.x[k] === null ? 0 : x - one.x[k])), arrayminus: one.low.map((x, k) => (x === null || one.x[k] === null ? 0 : one.x[k] - x)) };
      return [curve];
    }
    const band = ends(one, chart.limits ?? [-Infinity, Infinity]);
    if (!band) return [curve];
    if (one.bar) {
      curve.error_y = { type: "data", symmetric: false, color: own, thickness: 1, width: 3,
        array: band[1].map((y, k) => (y === null ? 0 : y - one.y[k])), arrayminus: band[0].map((y, k) => (y === null ? 0 : one.y[k] - y)) };
      return [curve];
    }
    const floor = (y) => (chart.logy ? Math.max(y, 1e-12) : y);
    const known = one.x.map((_, k) => k).filter((k) => band[0][k] !== null && band[1][k] !== null);
    const back = known.slice().reverse();
    return [{ x: known.concat(back).map((k) => one.x[k]), y: known.map((k) => band[1][k]).concat(back.map((k) => floor(band[0][k]))),
      fill: "toself", fillcolor: clear(own), line: { width: 0 }, mode: "lines", hoverinfo: "skip", visible, showlegend: false }, curve];
  };

  const lowest = (chart) => {
    const all = chart.series.flatMap((one) => one.y).filter((y) => y !== null && y > 0);
    return all.length ? [Math.log10(Math.max(Math.min(...all) / 1.5, Math.max(...all) / 1e7)), Math.log10(Math.max(...all) * 1.5)] : [-1, 1];
  };

  // Places of a logarithmic axis with labels: 1, 2, 5 in every decade where they are few, else whole decades.
  const marks = (low, high, narrow) => {
    const [first, last] = [Math.floor(low), Math.ceil(high)];
    const each = Math.ceil((last - first) / 7);
    const steps = high - low < (narrow ? 1 : 1.3) ? [1, 2, 3, 5, 7] : high - low < (narrow ? 1.6 : 2.7) ? [1, 2, 5] : [1];
    const values = [];
    for (let k = first; k <= last; k += each) steps.forEach((step) => values.push(step * 10 ** k));
    return { tickmode: "array", tickvals: values, ticktext: values.map((x) => (x >= 1e-4 && x < 1e5 ? short(x) : x.toExponential(0))) };
  };

  const span = (chart) => {
    const all = chart.series.flatMap((one) => (chart.rows && one.low ? [...one.low, ...one.high] : one.x)).filter((x) => x > 0).map(Math.log10);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const room = Math.max(0.04 * (high - low), 0.05);
    return [low - room, high + room];
  };

  // What the values of a chart lie between, with some room: zones would widen an axis.
  const within = (chart) => {
    const all = chart.series.flatMap((one) => (one.off ? [] : one.y)).filter((y) => y !== null).concat(chart.line ?? []);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const room = 0.12 * (high - low) || 0.1;
    return [low - room, high + room];
  };

  const layout = (chart) => {
    const axis = { color: theme("ink"), gridcolor: theme("rule"), zerolinecolor: theme("rule"), automargin: true, exponentformat: "power", minexponent: 4 };
    const across = { ...axis, title: { text: safe(chart.x), standoff: 6 }, type: chart.logx ? "log" : "linear" };
    const up = { ...axis, title: { text: safe(chart.y), standoff: 6 }, type: chart.logy ? "log" : "linear" };
    if (chart.logx) Object.assign(across, { range: span(chart) }, marks(...span(chart), chart.rows));
    if (chart.rangex) Object.assign(across, { range: chart.rangex, tickmode: "array", tickvals: chart.ticks[0], ticktext: chart.ticks[1] });
    if (chart.range) up.range = chart.range;
    if (chart.across) across.range = chart.across;
    if (chart.rows) Object.assign(up, { range: [chart.rows.length - 0.5, -0.5], zeroline: false, tickmode: "array", tickvals: chart.rows.map((_, k) => k), ticktext: chart.rows.map(safe), title: {} });
    if (chart.equal) Object.assign(up, { scaleanchor: "x", zeroline: false }) && Object.assign(across, { zeroline: false });
    if (chart.zones) up.range = chart.range ?? within(chart);
    if (chart.logy) Object.assign(up, { range: lowest(chart) }, marks(...lowest(chart)));
    const shapes = [];
    const annotations = [];
    if (chart.shade) {
      shapes.push({ type: "rect", xref: "x", yref: "paper", x0: chart.shade[0], x1: chart.shade[1], y0: 0, y1: 1, line: { width: 0 }, fillcolor: theme("rule"), opacity: 0.4, layer: "below" });
      annotations.push({ xref: "x", yref: "paper", x: chart.logx ? Math.log10(chart.shade[1]) : chart.shade[1], y: 1, xanchor: "right", yanchor: "bottom", text: safe(chart.shade[2]), showarrow: false, font: { size: 11, color: theme("soft") } });
    }
    (chart.zones ?? []).forEach(([from, to]) => shapes.push({ type: "rect", xref: "paper", yref: "y", x0: 0, x1: 1, y0: from, y1: to, line: { width: 0 }, fillcolor: theme("rule"), opacity: 0.3, layer: "below" }));
    if (chart.line !== undefined) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: chart.line, y1: chart.line, line: { color: theme("soft"), width: 1, dash: "dot" } });
    if (chart.beyond !== undefined) shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: chart.beyond, x1: chart.beyond, line: { color: theme("soft"), width: 1, dash: "dot" } });
    if (chart.snr && explorer) shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: explorer.grid[at], x1: explorer.grid[at], line: { color: theme("ink"), width: 2 } });
    return { font: { family: "system-ui, sans-serif", size: 12, color: theme("ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 52, r: 12, t: 18, b: 42 }, showlegend: false, hovermode: "closest", dragmode: false, shapes, annotations,
      hoverlabel: { bgcolor: theme("paper"), bordercolor: theme("ink"), font: { color: theme("ink") }, align: "left" },
      bargap: 0.05, barmode: "overlay",
      xaxis: across, yaxis: up };
  };

  const drawn = (chart) => chart.series.flatMap((one) => (one.bars ? [bars(one)] : traces(one, chart)));

  // A chart is drawn when it comes into view: what is far below takes no time before.
  const waiting = new Set();
  const watch = new IntersectionObserver((seen) => seen.forEach((one) => {
    if (one.isIntersecting && waiting.has(one.target.id)) now(charts.get(one.target.id));
  }), { rootMargin: "200px" });

  const now = (chart) => {
    const box = byId(chart.id);
    waiting.delete(chart.id);
    Plotly.react(box, drawn(chart), layout(chart), still);
    if (chart.snr && explorer && !box.dataset.drawn) box.on("plotly_click", (event) => move(nearest(event.points[0].x)));
    box.dataset.drawn = at;
  };

  const draw = (chart) => {
    const box = byId(chart.id);
    const { top, bottom } = box.getBoundingClientRect();
    watch.observe(box);
    if (top < innerHeight + 200 && bottom > -200) return now(chart);
    waiting.add(chart.id);
  };

  const SHAPES = { circle: '<circle cx="11" cy="5" r="4"/>', square: '<rect x="7" y="1" width="8" height="8"/>', diamond: '<path d="M11 0 16 5 11 10 6 5z"/>',
    "triangle-up": '<path d="M11 0 16 9H6z"/>', x: '<path d="M7 1 15 9M15 1 7 9" stroke-width="2.5"/>', "circle-open": '<circle cx="11" cy="5" r="3.5" fill="none" stroke-width="1.5"/>', "square-open": '<rect x="7.5" y="1.5" width="7" height="7" fill="none" stroke-width="1.5"/>' };
  const sign = (one) => {
    const own = `var(--c${one.colour % 6})`;
    if (one.symbol) return `<svg width="22" height="10" aria-hidden="true" fill="${own}" stroke="${own}" stroke-width="0">${SHAPES[one.symbol]}</svg>`;
    const dash = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2" }[one.dash];
    return `<svg width="22" height="8" aria-hidden="true"><line x1="0" x2="22" y1="4" y2="4" stroke="${own}" stroke-width="${one.thin ? 1 : 2.5}" stroke-dasharray="${dash}"></line></svg>`;
  };

  // Buttons that switch series, for the keyboard and screen readers, too.
  const keys = (chart) => {
    const box = document.querySelector(`[data-of="${chart.id}"]`);
    chart.series.forEach((one) => {
      const key = document.createElement("button");
      key.type = "button";
      key.setAttribute("aria-pressed", String(!one.off));
      key.innerHTML = sign(one);
      key.append(one.name);
      key.addEventListener("click", () => {
        one.off = !one.off;
        key.setAttribute("aria-pressed", String(!one.off));
        draw(chart);
      });
      box.append(key);
    });
  };

  const quoted = (value) => {
    if (value === null || value === undefined) return "";
    const text = String(value);
    return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };

  const csvOf = (id) => {
    if (data.csv[id] !== undefined) return data.csv[id];
    const chart = charts.get(id);
    const [shaded, noted] = ["shaded", "notes"].map((name) => chart.series.find((one) => one[name]));
    const lines = [["series", chart.x, chart.y || "of", "standard error", "low", "high", ...(shaded ? [shaded.shaded] : []), ...(noted ? ["note"] : [])]];
    chart.series.forEach((one) => one.x.forEach((x, k) => lines.push([one.name, x, one.y[k], one.se && one.se[k], one.low && one.low[k], one.high && one.high[k],
      ...(shaded ? [one.shades && one.shades[k]] : []), ...(noted ? [one.notes && one.notes[k]] : [])])));
    return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  };

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // where the browser grants no clipboard
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };

  document.querySelectorAll(".copy").forEach((one) => { // what the page had no room for is not copied
    one.hidden = data.csv[one.dataset.copies] === undefined && !byId(one.dataset.copies)?.classList.contains("plot");
  });
  document.querySelectorAll(".copy").forEach((one) => one.addEventListener("click", async () => {
    await copy(csvOf(one.dataset.copies));
    byId("status").textContent = "Copied.";
    one.textContent = "Copied";
    setTimeout(() => { one.textContent = "Copy CSV"; }, 1500);
  }));

  // What the slider moves.

  const unpacked = (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

  const BINS = 40;
  const least = 1e-4; // localizations below it are as good as zero
  const bars = (one) => ({ type: "bar", x: one.x, y: one.y, width: one.width, marker: { color: colour(one.colour), opacity: 0.65 }, name: safe(one.name), text: one.text, textposition: "none", hovertemplate: "%{text}<extra></extra>", visible: !one.off });

  const sampled = (one, row, low, high) => {
    const step = (high - low) / BINS;
    const count = one.values.length / one.snr.length;
    const shares = new Array(BINS).fill(0);
    let total = 0;
    for (let k = row * count; k < (row + 1) * count; k++) {
      const weight = one.weights ? one.weights[k] : 1;
      const place = Math.floor((Math.log10(Math.max(one.values[k], least)) - low) / step);
      shares[Math.min(Math.max(place, 0), BINS - 1)] += weight;
      total += weight;
    }
    const x = shares.map((_, k) => low + (k + 0.5) * step);
    const y = shares.map((share) => share / total);
    const text = y.map((share, k) => `<b>${safe(one.name)}</b><br>L from ${short(10 ** (low + k * step))} to ${short(10 ** (low + (k + 1) * step))}<br>${(100 * share).toFixed(1)}%${one.sampled ? ` of ${count} queries` : ""}`);
    return { name: one.name, x, y, text, width: step, colour: one.colour, dash: "solid", bars: true };
  };

  const move = (to) => {
    at = to;
    const r = explorer.grid[at];
    const first = explorer.profiles[0];
    const row = first.at[at];
    const same = Math.abs(Math.log(first.snr[row] / r)) < 1e-5;
    const said = `r = ${short(r)} · sigma ${short(1 / r)}` + (same ? ` · OU time ${short(first.time[row])}` : "");
    byId("where").textContent = said;
    byId("snr").value = at;
    byId("snr").setAttribute("aria-valuetext", said);

    const survival = charts.get("survival");
    const sample = charts.get("sample");
    const off = (chart) => chart.series.map((one) => one.off);
    const [offSurvival, offSample] = [off(survival), off(sample)];
    survival.series = explorer.profiles.map((one, k) => ({ name: one.name, x: one.u, y: one.survival[one.at[at]], colour: one.colour, dash: ["solid", "dash", "dot", "dashdot"][k % 4], off: offSurvival[k],
      se: one.survival_se && one.survival_se[one.at[at]], low: one.survival_low && one.survival_low[one.at[at]], high: one.survival_high && one.survival_high[one.at[at]] }));
    sample.series = explorer.profiles.filter((one) => one.values).map((one, k) => ({ ...sampled(one, one.at[at], sample.rangex[0], sample.rangex[1]), off: offSample[k] }));
    charts.forEach((chart) => { if (chart.snr || chart === survival || chart === sample) draw(chart); });

    data.strips.forEach((strip) => turn(strip, nearestOf(strip.snr, r)));

    document.querySelectorAll("tr[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
    const titles = [];
    const cells = explorer.profiles.map((one, k) => {
      const line = byId(`row-${k}-${one.at[at]}`);
      line.setAttribute("aria-current", "true");
      const box = line.closest(".scroll");
      box.scrollTop = line.offsetTop - box.clientHeight / 2;
      const names = [...line.closest("table").querySelectorAll("thead th")].map((cell) => cell.textContent);
      names.forEach((name) => titles.includes(name) || titles.push(name));
      return new Map(names.map((name, j) => [name, line.cells[j].textContent]));
    });
    const table = byId("now");
    table.replaceChildren();
    const head = table.createTHead().insertRow();
    const known = explorer.profiles.map((one) => one.known[one.at[at]]);
    ["", ...explorer.profiles.map((one, k) => one.name + (known[k] ? "" : " (the data cannot tell)"))].forEach((name, k) => {
      const cell = document.createElement(k ? "th" : "td");
      if (k) cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    });
    const body = table.createTBody();
    titles.forEach((title) => {
      const line = body.insertRow();
      const cell = document.createElement("th");
      cell.scope = "row";
      cell.textContent = title;
      line.append(cell);
      cells.forEach((own, k) => {
        const value = line.insertCell();
        value.textContent = own.get(title) ?? "";
        if (!known[k]) value.className = "dim";
      });
    });
  };

  const explore = () => {
    explorer.profiles.forEach((one) => {
      one.values = one.localization && unpacked(one.localization);
      one.weights = one.weight && unpacked(one.weight);
    });
    let [low, high] = [Infinity, -Infinity];
    explorer.profiles.forEach((one) => one.values && one.values.forEach((value) => {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }));
    low = Math.floor(Math.log10(Math.max(low, least)));
    high = Math.max(Math.ceil(Math.log10(Math.max(high, 10 * least))), low + 1);
    const decades = Array.from({ length: high - low + 1 }, (_, k) => low + k);
    const curves = explorer.profiles.map((one) => ({ name: one.name, colour: one.colour, x: [], y: [], dash: "solid" }));
    charts.set("survival", { id: "survival", x: "u", y: "P(L > u)", range: [-0.02, 1.04], limits: [0, 1], beyond: 1, series: curves });
    charts.set("sample", { id: "sample", x: "L", y: "share", beyond: 0, rangex: [low, high], ticks: [decades, decades.map((k) => short(10 ** k))], series: curves.slice() });
    const slider = byId("snr");
    slider.max = explorer.grid.length - 1;
    slider.addEventListener("input", () => move(Number(slider.value)));
    explorer.profiles.forEach((one, k) => one.snr.forEach((snr, row) => byId(`row-${k}-${row}`).addEventListener("click", () => move(nearest(snr)))));
    move(explorer.start);
    if (!explorer.profiles.some((one) => one.values)) byId("sample").textContent = "Left out: the page would weigh more than 6 MB.";
    if (explorer.profiles.length > 1) ["survival", "sample"].forEach((id) => keys(charts.get(id)));
  };

  const nearestOf = (snrs, snr) => snrs.reduce((best, r, k) => (Math.abs(Math.log(r / snr)) < Math.abs(Math.log(snrs[best] / snr)) ? k : best), 0);
  const nearest = (snr) => nearestOf(explorer.grid, snr);

  // Images at several SNRs: those of one are shown.
  const turn = (strip, view) => {
    const slider = byId(`${strip.id}-snr`); // none where that of the profiles is the only one
    if (slider) {
      slider.value = view;
      slider.nextElementSibling.textContent = `r = ${short(strip.snr[view])}`;
      slider.setAttribute("aria-valuetext", `SNR ${short(strip.snr[view])}`);
    }
    document.querySelectorAll(`#${strip.id} [data-view]`).forEach((one) => { one.hidden = Number(one.dataset.view) !== view; });
  };

  const redraw = () => charts.forEach(draw);
  const redrawAll = () => charts.forEach((chart) => { // paper has no view, and another width
    now(chart);
    Plotly.relayout(byId(chart.id), { autosize: true });
  });
  document.querySelectorAll(".swatch").forEach((one) => { one.style.background = `var(--c${Number(one.dataset.colour) % 6})`; });
  charts.forEach(keys);
  charts.forEach((chart) => { if (!explorer || !chart.snr) draw(chart); });
  data.strips.forEach((strip) => {
    byId(`${strip.id}-snr`)?.addEventListener("input", (event) => turn(strip, Number(event.target.value)));
    turn(strip, 0);
  });
  if (explorer) explore();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", redrawAll);
  document.documentElement.dataset.ready = Math.round(performance.now());
})();
