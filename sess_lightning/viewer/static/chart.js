// A chart of values over the validations: lines with a legend, a cursor at the validation shown, click to jump.

import { brief, el, svg } from "./dom.js";

const LEFT = 38, RIGHT = 10, TOP = 8, BOTTOM = 18;

// Ends of an axis and its ticks, at round numbers.
function ticks(low, high, count) {
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const marks = [];
  for (let at = Math.ceil(low / step); at * step <= high + 1e-9 * step; at++) marks.push(at * step);
  return marks;
}

function path(points, x, y) {
  let text = "";
  let pen = false;
  for (const [at, value] of points) {
    if (Number.isFinite(value)) text += `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = Number.isFinite(value);
  }
  return text;
}

function band(points, x, y) {
  const there = points.filter(([, low, high]) => Number.isFinite(low) && Number.isFinite(high));
  const edge = [...there.map(([at, , high]) => [at, high]), ...there.reverse().map(([at, low]) => [at, low])];
  return edge.length ? `${path(edge, x, y)}Z` : "";
}

// Ticks of the steps: at most five validations, by their epochs.
function timeTicks(validations, x, width) {
  const byEpoch = new Map();
  for (const one of validations) if (!byEpoch.has(one.epoch)) byEpoch.set(one.epoch, one.step);
  const epochs = [...byEpoch];
  const every = Math.max(1, Math.ceil(epochs.length / Math.max(2, Math.floor(width / 60))));
  return epochs.filter((_, i) => i % every === 0).map(([epoch, step]) => [x(step), epoch]);
}

// lines: [{name, style, points: [[step, value]], band: [[step, low, high]]}], style: a class of style.css.
// level: what no skill scores, a dashed line, or nothing. Returns {node, cursor(validation)}.
export function chart({ title, note, lines, level, validations, width, height, jump, range }) {
  const steps = validations.map((one) => one.step);
  const values = [level, ...lines.flatMap((line) => line.points.map(([, value]) => value))].filter(Number.isFinite);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  let [low, high] = range || [Math.min(...values), Math.max(...values)];
  if (!(high > low)) [low, high] = [low - 0.05, high + 0.05];
  const x = (step) => LEFT + ((last > first ? (step - first) / (last - first) : 0.5) * (width - LEFT - RIGHT));
  const y = (value) => TOP + ((high - value) / (high - low)) * (height - TOP - BOTTOM);

  const drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img",
    "aria-label": `${title}: ${lines.map((line) => line.name).join(", ")} over the validations` });
  for (const mark of ticks(low, high, 3)) {
    drawing.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(mark), y2: y(mark), class: "gridline" }),
      svg("text", { x: LEFT - 5, y: y(mark) + 4, "text-anchor": "end" }, brief(mark, 2)));
  }
  for (const [at, epoch] of timeTicks(validations, x, width)) {
    drawing.append(svg("text", { x: at, y: height - 4, "text-anchor": "middle" }, String(epoch)));
  }
  if (Number.isFinite(level)) {
    drawing.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(level), y2: y(level), class: "noskill" }));
  }
  for (const line of lines) {
    if (line.band) drawing.append(svg("path", { d: band(line.band, x, y), class: `band ${line.style}` }));
  }
  for (const line of lines) {
    drawing.append(svg("path", { d: path(line.points, x, y), class: `line ${line.style}` }));
    if (line.points.length < 3) {
      for (const [at, value] of line.points.filter(([, one]) => Number.isFinite(one))) {
        drawing.append(svg("circle", { cx: x(at), cy: y(value), r: 3, class: `dot ${line.style}` }));
      }
    }
  }
  const needle = svg("line", { y1: TOP, y2: height - BOTTOM, class: "needle" });
  const dots = lines.map((line) => svg("circle", { r: 3.5, class: `dot ${line.style}` }));
  drawing.append(needle, ...dots);
  const readings = lines.map(() => el("b", {}));
  const legend = lines.map((line, i) =>
    el("span", { class: `key ${line.style}` }, el("i", {}), `${line.name} `, readings[i]));

  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) * width) / box.width;
    jump(validations.reduce((best, one) => (Math.abs(x(one.step) - at) < Math.abs(x(best.step) - at) ? one : best)));
  });

  function cursor(validation) {
    const at = x(validation.step);
    needle.setAttribute("x1", at);
    needle.setAttribute("x2", at);
    lines.forEach((line, i) => {
      const point = line.points.find(([step]) => step === validation.step) ||
        [...line.points].reverse().find(([step]) => step <= validation.step);
      const value = point ? point[1] : NaN;
      readings[i].textContent = brief(value);
      dots[i].setAttribute("visibility", Number.isFinite(value) ? "visible" : "hidden");
      if (Number.isFinite(value)) {
        dots[i].setAttribute("cx", x(point[0]));
        dots[i].setAttribute("cy", y(value));
      }
    });
  }

  if (Number.isFinite(level)) {
    legend.push(el("span", { class: "key noskill" }, el("i", {}), "by chance ", el("b", {}, brief(level))));
  }

  const head = el("figcaption", {}, el("strong", {}, title), note ? el("small", {}, note) : null,
    el("span", { class: "legend" }, ...legend));
  return { node: el("figure", { class: "chart" }, head, drawing), cursor };
}
