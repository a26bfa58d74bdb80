// Draws one panel: the picture in grey, the map over it, boxes, outlines and the peak.

import { painted } from "./colormap.js";

const pictures = new WeakMap(); // by run: by sample, the picture at the last size asked for
const MARK = "#ffffff", AROUND = "rgba(0, 0, 0, 0.75)";

// The picture at a size, in grey: its own colours could be mistaken for saliency.
function picture(run, sample, bitmap, width, height, grey) {
  if (!pictures.has(run)) pictures.set(run, new Map());
  const key = `${sample} ${grey}`;
  const known = pictures.get(run).get(key);
  if (known && known.width === width && known.height === height) return known;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.filter = grey ? "grayscale(1)" : "none";
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  pictures.get(run).set(key, canvas);
  return canvas;
}

// Lines that can be seen on every background: dark, then light.
function stroked(context, unit, width, trace) {
  for (const [style, extra] of [[AROUND, 2], [MARK, 0]]) {
    context.strokeStyle = style;
    context.lineWidth = (width + extra) * unit;
    context.beginPath();
    trace();
    context.stroke();
  }
}

function drawObjects(context, sample, target, scale, unit) {
  const mine = (one) => one[0] === target;
  for (const box of [...sample.boxes].sort((a, b) => mine(a) - mine(b))) {
    const [, left, top, right, bottom] = box;
    context.globalAlpha = mine(box) ? 1 : 0.55;
    context.setLineDash(mine(box) ? [] : [4 * unit, 3 * unit]);
    stroked(context, unit, mine(box) ? 1.5 : 1, () =>
      context.rect(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale));
  }
  for (const [cls, points] of sample.outlines || []) {
    context.globalAlpha = cls === target ? 1 : 0.55;
    context.setLineDash([]);
    stroked(context, unit, 1, () => {
      for (let i = 0; i < points.length; i += 2) context.lineTo(points[i] * scale, points[i + 1] * scale);
      context.closePath();
    });
  }
  context.globalAlpha = 1;
  context.setLineDash([]);
}

// A ring where the peak hits, a cross where it misses, a dot where nothing tells.
function drawPeak(context, peak, hit, tolerance, scale, unit) {
  const [x, y] = [(peak[0] + 0.5) * scale, (peak[1] + 0.5) * scale];
  const size = 5 * unit;
  stroked(context, unit, 2, () => {
    if (hit === false) {
      context.moveTo(x - size, y - size);
      context.lineTo(x + size, y + size);
      context.moveTo(x + size, y - size);
      context.lineTo(x - size, y + size);
    } else context.arc(x, y, hit ? size : unit, 0, 2 * Math.PI);
  });
  if (tolerance && hit !== null && tolerance * scale > size) {
    context.globalAlpha = 0.6;
    stroked(context, unit, 0.5, () => context.arc(x, y, tolerance * scale, 0, 2 * Math.PI));
    context.globalAlpha = 1;
  }
}

function drawTitle(context, text, unit) {
  context.font = `${11 * unit}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 8 * unit;
  context.fillStyle = AROUND;
  context.fillRect(0, 0, width, 16 * unit);
  context.fillStyle = MARK;
  context.fillText(text, 4 * unit, 12 * unit);
}

// Where the other run does not follow the sample.
export function drawMissing(context, left, width, height, unit) {
  context.clearRect(left, 0, width, height);
  context.font = `${12 * unit}px system-ui, sans-serif`;
  context.fillStyle = "#808090";
  context.fillText("not followed", left + 8 * unit, height / 2);
}

// Draws into the canvas's part from `left` on, `width` x `height` in its pixels.
//   panel: {run, validation, kind, title}; kind: sess, base, second, or image for the picture alone
//   look: the state's values; bitmap: the picture, or null while it loads; unit: canvas pixels a CSS pixel
export function drawPanel(context, left, width, height, { run, validation, kind, title }, sample, bitmap, look, unit) {
  const known = run.samples[sample];
  const scale = width / known.width;
  context.save();
  context.translate(left, 0);
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  context.clearRect(0, 0, width, height);
  if (bitmap) {
    const grey = kind !== "image" && look.colours !== "spotlight";
    context.drawImage(picture(run, sample, bitmap, width, height, grey), 0, 0);
  }
  const box = kind === "image" ? null : run.box(validation, sample, kind);
  const atlas = run.ready.get(validation.number);
  const map = !!(box && atlas);
  if (map) {
    context.globalAlpha = look.opacity / 100;
    context.drawImage(painted(atlas, box, look.colours), 0, 0, width, height);
    context.globalAlpha = 1;
  }
  const value = (name) => run.value(validation, sample, name);
  if (look.boxes) drawObjects(context, known, kind === "second" ? value("second") : value("target"), scale, unit);
  const before = { sess: "", base: "base_" }[kind];
  const peak = before !== undefined && value(`${before}peak`);
  if (look.peaks && map && peak) {
    drawPeak(context, peak, value(`${before}hit`) ?? null, run.record.tolerance, scale, unit);
  }
  if (title) drawTitle(context, title, unit);
  context.restore();
}

// In words, for people who do not see the picture.
export function described(run, validation, sample) {
  const value = (name) => run.value(validation, sample, name);
  const hit = { true: "hit", false: "miss" };
  const parts = [`sample ${sample}, ${run.className(value("target"))}`];
  if (value("correct") === false) parts.push(`predicted ${run.className(value("prediction"))}`);
  if (Number.isFinite(value("score"))) parts.push(`probability ${value("score").toFixed(2)}`);
  if (hit[value("hit")]) parts.push(`SESS ${hit[value("hit")]}`);
  if (hit[value("base_hit")]) parts.push(`base ${hit[value("base_hit")]}`);
  if (value("valid") === false) parts.push("no valid map");
  if (value("kind") && value("kind") !== "random") parts.push(`shown as ${run.kinds(validation, sample).join(" and ").replace("_", " ")}`);
  return `${parts.join(", ")}; epoch ${validation.epoch}`;
}
