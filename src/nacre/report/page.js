// The charts of a report: each <figure> holds its numbers as JSON, and is drawn as SVG as wide as there is room.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const palettes = JSON.parse(document.getElementById("palettes").textContent);
const hidden = new Set();
const MARGIN = { left: 56, right: 12, top: 10, bottom: 42 };

function add(parent, tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
}

function written(value, unit) {
  if (unit === "steps" && Math.abs(value) >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (unit === "steps" && Math.abs(value) >= 1e3) return +(value / 1e3).toPrecision(3) + "k";
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e6) ? value.toExponential(1) : String(+value.toPrecision(4));
}

// Where a value lies between the ends of an axis, from 0 to 1. log1p: as log, with room for 0.
const measures = { linear: v => v, log: v => Math.log10(v), log1p: v => Math.log10(1 + v) };

function axisOf(axis, values) {
  const measure = measures[axis.scale];
  values = values.filter(v => v !== null && Number.isFinite(measure(v)));
  let low = axis.low ?? Math.min(...values), high = axis.high ?? Math.max(...values);
  if (!values.length && axis.low === null) [low, high] = [axis.scale === "log" ? 1 : 0, 10];
  if (low === high) [low, high] = axis.scale === "log" ? [low / 2, high * 2] : [low - 1, high + 1];
  const margin = axis.scale === "linear" ? 0.05 * (high - low) : 0;
  if (axis.low === null) low -= margin;
  if (axis.high === null) high += margin;
  return { ...axis, low, high, place: v => (measure(v) - measure(low)) / (measure(high) - measure(low)) };
}

function around(axis, length) {
  const middle = (axis.low + axis.high) / 2;
  return axisOf({ ...axis, low: middle - length / 2, high: middle + length / 2 }, []);
}

function ticks({ scale, low, high, whole }, room) {
  if (scale === "linear") {
    const rough = (high - low) / Math.max(2, room), power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].map(f => f * power).find(s => s >= rough);
    if (whole) step = Math.max(1, Math.round(step));
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
  }
  const found = scale === "log1p" ? [0] : [];
  const powers = [];
  for (let p = -12; p <= 12; p++) powers.push(p);
  const fine = scale === "log" && Math.log10(high / low) < 2 ? [1, 2, 5] : [1];
  for (const p of powers) for (const f of fine) found.push(f * 10 ** p);
  const shown = found.filter(v => v >= low && v <= high && (scale !== "log1p" || v === 0 || v >= 1));
  const every = Math.ceil(shown.length / Math.max(2, room));
  return shown.filter((_, i) => i % every === 0);
}

// The mean over `width` neighbours, fewer at both ends.
function smoothed(values, width) {
  const half = (width - 1) / 2;
  return values.map((v, i) => {
    const near = values.slice(Math.max(0, i - half), i + half + 1).filter(n => n !== null);
    return v === null || !near.length ? v : near.reduce((a, b) => a + b) / near.length;
  });
}

function mixed(name, share) {
  const colours = palettes[name], at = share * (colours.length - 1), low = Math.min(Math.floor(at), colours.length - 2);
  const parts = colour => [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  const [a, b] = [parts(colours[low]), parts(colours[low + 1])];
  return `rgb(${a.map((v, i) => Math.round(v + (at - low) * (b[i] - v)))})`;
}

const choice = name => document.getElementById(name)?.value;

// What a chart shows now: the chosen view, smoothed lines of the methods that are not hidden, dots by the parameter.
function chosen(chart, figure) {
  const view = chart.views.find(v => v.name === choice("across")) ?? chart.views[0];
  const width = Number(choice("smoothing") ?? 1), parameter = Number(choice(figure.dataset.parameters) ?? 0);
  const lines = view.lines.filter(l => !hidden.has(l.method)).map(l => !l.smooth || width === 1 ? l : {
    ...l, y: smoothed(l.y, width), low: l.low && smoothed(l.low, width), high: l.high && smoothed(l.high, width),
  });
  const by = view.parameters?.[parameter];
  const dots = view.dots.map(d => view.across_parameter ? { ...d, x: by.values } : d);
  const x = view.across_parameter ? { ...view.x, label: by.name } : view.x;
  return { ...view, x, lines, dots, by, levels: view.levels.filter(l => !hidden.has(l.method)) };
}

function draw(figure) {
  const { chart, box } = figure, view = chosen(chart, figure);
  const every = key => [...view.lines, ...view.dots].flatMap(one => one[key] ?? []);
  let x = axisOf(view.x, [...every("x"), ...view.discs.map(d => d.x)]);
  let y = axisOf(view.y, [...every("y"), ...every("low"), ...every("high"), ...every("start"), ...view.levels.map(l => l.y)]);
  const width = Math.max(200, box.clientWidth), inner = width - MARGIN.left - MARGIN.right;
  let height = chart.height;
  if (chart.equal) { // one unit is as long across as upwards
    const unit = Math.min(inner / (x.high - x.low), 380 / (y.high - y.low));
    height = Math.max(90, unit * (y.high - y.low));
    x = around(x, inner / unit);
    y = around(y, height / unit);
  }
  const left = v => MARGIN.left + inner * x.place(v), top = v => MARGIN.top + height * (1 - y.place(v));
  box.querySelector("svg")?.remove();
  const svg = add(box, "svg", { width, height: height + MARGIN.top + MARGIN.bottom, role: "img", "aria-label": chart.alt });
  const grid = { stroke: "#e4e4e4", "stroke-width": 1 };
  for (const v of ticks(y, height / 45)) {
    add(svg, "line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: top(v), y2: top(v), ...grid });
    add(svg, "text", { x: MARGIN.left - 6, y: top(v) + 4, "text-anchor": "end" }, written(v, y.unit));
  }
  for (const v of ticks(x, inner / 70)) {
    add(svg, "line", { x1: left(v), x2: left(v), y1: MARGIN.top, y2: MARGIN.top + height, ...grid });
    add(svg, "text", { x: left(v), y: MARGIN.top + height + 16, "text-anchor": "middle" }, written(v, x.unit));
  }
  add(svg, "text", { x: MARGIN.left + inner / 2, y: MARGIN.top + height + 34, "text-anchor": "middle", class: "axis" }, x.label);
  if (y.label) add(svg, "text", {
    transform: `translate(12 ${MARGIN.top + height / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis",
  }, y.label);
  figure.points = [];
  for (const d of view.discs) {
    const r = Math.abs(left(d.x + d.radius) - left(d.x));
    add(svg, "circle", { cx: left(d.x), cy: top(d.y), r: Math.max(r, 4), fill: "#007A58", "fill-opacity": 0.25, stroke: "#007A58" });
    add(svg, "circle", { cx: left(d.x), cy: top(d.y), r: 3, fill: "#007A58" });
  }
  for (const l of view.lines) drawLine(svg, l, left, top, figure.points);
  for (const d of view.dots) drawDots(svg, d, view.by, left, top, figure.points);
  drawLevels(svg, view.levels, top, width);
  figure.mark = add(svg, "circle", { r: 6, fill: "none", stroke: "#262626", "stroke-width": 2, visibility: "hidden" });
  figure.words = { x: x.label, y: y.label || "value", unit: x.unit };
  if (view.by && !view.across_parameter) drawScale(svg, view.by, width, height, figure);
}

function drawLine(svg, l, left, top, points) {
  const known = l.x.map((_, i) => i).filter(i => l.y[i] !== null);
  const path = (ys, order) => order.map((i, n) => `${n ? "L" : "M"}${left(l.x[i]).toFixed(1)} ${top(ys[i]).toFixed(1)}`).join("");
  if (l.low) add(svg, "path", {
    d: path(l.high, known) + path(l.low, [...known].reverse()).replace("M", "L") + "Z", fill: l.colour, "fill-opacity": 0.16,
  });
  add(svg, "path", {
    d: path(l.y, known), fill: "none", stroke: l.colour, "stroke-width": l.width, "stroke-opacity": l.opacity,
    "stroke-dasharray": l.dash, "stroke-linejoin": "round",
  });
  if (l.marks || known.length === 1) for (const i of known)
    add(svg, "circle", { cx: left(l.x[i]), cy: top(l.y[i]), r: 3, fill: l.colour, "fill-opacity": l.opacity });
  for (const i of known) points.push({
    group: l, left: left(l.x[i]), top: top(l.y[i]), x: l.x[i], y: l.y[i], label: l.label, low: l.low?.[i], high: l.high?.[i],
  });
}

function drawDots(svg, d, by, left, top, points) {
  const { low, high } = by ?? {};
  d.x.forEach((x, i) => {
    const at = { cx: left(x), cy: top(d.y[i]) };
    const colour = d.colour || mixed(by.cyclic ? "cyclic" : "even", high > low ? (by.values[i] - low) / (high - low) : 0.5);
    if (d.start) add(svg, "line", { x1: at.cx, x2: at.cx, y1: top(d.start[i]), y2: at.cy, stroke: "#8a8a8a" });
    add(svg, "circle", { ...at, r: d.hollow ? 4 : 5.5, fill: d.hollow ? "#fff" : colour, stroke: d.hollow ? colour : "#404040", "stroke-width": d.hollow ? 2 : 0.8 });
    points.push({ group: d, left: at.cx, top: at.cy, x, y: d.y[i], label: d.labels[i] });
  });
}

// Levels with their names above them at the right, moved up where they would cover each other.
function drawLevels(svg, levels, top, width) {
  let last = Infinity;
  for (const l of [...levels].sort((a, b) => top(b.y) - top(a.y))) {
    const at = top(l.y);
    add(svg, "line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at, stroke: l.colour, "stroke-dasharray": "2 4", "stroke-width": 1.6 });
    last = Math.min(at - 4, last - 13);
    add(svg, "text", { x: width - MARGIN.right, y: last, "text-anchor": "end", "paint-order": "stroke", stroke: "#fff", "stroke-width": 3 }, `${l.label}: ${written(l.y)}`);
  }
}

// The colours of dots, under the chart.
function drawScale(svg, by, width, height, figure) {
  const y = height + MARGIN.top + MARGIN.bottom, wide = Math.min(240, width - MARGIN.left - 12), steps = 40;
  svg.setAttribute("height", y + 48);
  for (let i = 0; i < steps; i++) add(svg, "rect", {
    x: MARGIN.left + i * wide / steps, y, width: wide / steps + 0.5, height: 12, fill: mixed(by.cyclic ? "cyclic" : "even", i / (steps - 1)),
  });
  add(svg, "text", { x: MARGIN.left, y: y + 26 }, written(by.low));
  add(svg, "text", { x: MARGIN.left + wide, y: y + 26, "text-anchor": "end" }, written(by.high));
  add(svg, "text", { x: MARGIN.left, y: y + 42, class: "axis" }, `colour: ${by.name}`);
}

function show(figure, point) {
  figure.at = point;
  figure.mark.setAttribute("visibility", point ? "visible" : "hidden");
  if (!point) return void (figure.output.textContent = "");
  figure.mark.setAttribute("cx", point.left);
  figure.mark.setAttribute("cy", point.top);
  const band = point.low === undefined || point.low === null ? "" : ` (${written(point.low)} to ${written(point.high)})`;
  const { x, y, unit } = figure.words;
  figure.output.textContent = `${point.label}: ${y} ${written(point.y)}${band} at ${x} ${written(point.x, unit)}`;
}

function nearest(figure, event) {
  const frame = figure.box.getBoundingClientRect();
  const far = p => Math.hypot(p.left - (event.clientX - frame.left), p.top - (event.clientY - frame.top));
  return figure.points.length ? figure.points.reduce((a, b) => far(b) < far(a) ? b : a) : null;
}

// Left and right: along a line. Up and down: to the next line.
function byKey(figure, event) {
  const keys = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }, { points, at } = figure;
  if (event.key === "Escape") return show(figure, null);
  if (!(event.key in keys) || !points.length) return;
  event.preventDefault();
  if (!at) return show(figure, points[0]);
  const groups = [...new Set(points.map(p => p.group))], along = points.filter(p => p.group === at.group);
  if (event.key === "ArrowLeft" || event.key === "ArrowRight")
    return show(figure, along[Math.min(along.length - 1, Math.max(0, along.indexOf(at) + keys[event.key]))]);
  const next = groups[(groups.indexOf(at.group) + keys[event.key] + groups.length) % groups.length];
  const others = points.filter(p => p.group === next);
  show(figure, others.reduce((a, b) => Math.abs(b.left - at.left) < Math.abs(a.left - at.left) ? b : a));
}

const figures = [...document.querySelectorAll("figure[data-chart]")];
for (const figure of figures) {
  figure.chart = JSON.parse(figure.querySelector("script").textContent);
  [figure.box, figure.output] = [figure.querySelector(".chart"), figure.querySelector("output")];
  figure.box.addEventListener("pointermove", event => show(figure, nearest(figure, event)));
  figure.box.addEventListener("pointerdown", event => show(figure, nearest(figure, event)));
  figure.box.addEventListener("pointerleave", event => event.pointerType === "mouse" && show(figure, null));
  figure.box.addEventListener("keydown", event => byKey(figure, event));
}
const redraw = () => figures.filter(f => f.box.clientWidth).forEach(f => { draw(f); show(f, null); });
for (const box of document.querySelectorAll("input[data-method]")) box.addEventListener("change", () => {
  box.checked ? hidden.delete(box.dataset.method) : hidden.add(box.dataset.method);
  redraw();
});
document.querySelectorAll("select").forEach(select => select.addEventListener("change", redraw));
document.querySelectorAll("details").forEach(part => part.addEventListener("toggle", redraw));
addEventListener("resize", redraw);
redraw();
