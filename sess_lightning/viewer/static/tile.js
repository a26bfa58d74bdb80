// A sample as it stands in a list: its panels on one canvas, and a line of words below.

import { described, drawMissing, drawPanel } from "./draw.js";
import { el } from "./dom.js";

const MARKS = { worst: ["worst", "One of the highest losses of the whole validation"],
  new_error: ["new error", "Wrong now, right one validation before"] };

// Size of one panel in CSS pixels: all of one height, at most twice as wide.
export function panelSize(sample, height) {
  return [Math.round(height * Math.min(2, Math.max(0.4, sample.width / sample.height))), Math.round(height)];
}

// Draws the panels of a sample beside each other; again, when a picture arrives that was not there yet.
export function drawPanels(canvas, panels, sampleOf, height, look) {
  const unit = window.devicePixelRatio || 1;
  const [width] = panelSize(panels[0].run.samples[sampleOf(panels[0].run)], height);
  const gap = panels.length > 1 ? 2 : 0;
  const total = width * panels.length + gap * (panels.length - 1);
  if (canvas.width !== Math.round(total * unit) || canvas.height !== Math.round(height * unit)) {
    canvas.width = Math.round(total * unit);
    canvas.height = Math.round(height * unit);
    canvas.style.width = `${total}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  panels.forEach((panel, i) => {
    const sample = sampleOf(panel.run);
    const place = [Math.round(i * (width + gap) * unit), Math.round(width * unit), canvas.height];
    if (sample === undefined) {
      drawMissing(context, ...place, unit);
      return;
    }
    const bitmap = panel.run.bitmaps.get(sample) || null;
    drawPanel(context, ...place, panel, sample, bitmap, look, unit);
    if (!bitmap) {
      panel.run.image(sample).then((found) => drawPanel(context, ...place, panel, sample, found, look, unit), () => {});
    }
  });
}

// The words below: class, prediction where it is wrong, probability, whether the peaks hit.
export function caption(run, validation, sample, named = true) {
  const value = (name) => run.value(validation, sample, name);
  const wrong = value("correct") === false;
  const marks = [["base", value("base_hit")], ["SESS", value("hit")]].filter(([, hit]) => typeof hit === "boolean");
  return [
    el("span", { class: "words" },
      named ? el("b", {}, run.className(run.samples[sample].label ?? value("target"))) : "",
      wrong ? el("em", {}, ` → ${run.className(value("prediction"))}`) : ""),
    el("span", { class: "score", title: `probability of ${run.className(value("target"))}` },
      Number.isFinite(value("score")) ? value("score").toFixed(2) : ""),
    el("span", { class: "marks" },
      ...marks.map(([name, hit]) => el("span", { class: `mark ${hit ? "hit" : "miss"}`, title: `${name}: ${hit ? "hit" : "miss"}` },
        `${hit ? "○" : "✕"} ${name}`)),
      ...run.kinds(validation, sample).filter((kind) => MARKS[kind]).map((kind) => el("span", { class: "mark", title: MARKS[kind][1] }, MARKS[kind][0])),
      value("valid") === false ? el("span", { class: "mark miss", title: "The map is constant or not finite" }, "no map") : ""),
  ];
}

export class Tile {
  constructor(sample, open) {
    this.sample = sample;
    this.canvas = el("canvas", { role: "img" });
    this.words = el("span", { class: "caption" });
    this.node = el("button", { class: "tile", "data-sample": sample, onclick: () => open(sample) }, this.canvas, this.words);
  }

  draw(panels, sampleOf, look) {
    const { run, validation } = panels[0];
    drawPanels(this.canvas, panels, sampleOf, look.size, look);
    this.node.style.width = this.canvas.style.width;
    const said = described(run, validation, this.sample);
    if (said !== this.said) { // most samples stay as they were from one validation to the next
      this.words.replaceChildren(...caption(run, validation, this.sample));
      this.canvas.setAttribute("aria-label", said);
      this.said = said;
    }
    this.node.classList.toggle("wrong", run.value(validation, this.sample, "correct") === false);
  }
}
