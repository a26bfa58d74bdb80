// One sample: large, over all its validations, with the windows that SESS looked through.

import { chart } from "./chart.js";
import { cssColour } from "./colormap.js";
import { drawPanel } from "./draw.js";
import { brief, el } from "./dom.js";
import { caption, drawPanels, panelSize } from "./tile.js";

const LARGE = 300, FRAME = 88, MOST_FRAMES = 48, SCALE = 150;

export class SamplePage {
  constructor(app) {
    this.app = app;
    const close = () => app.state.set({ sample: -1 });
    this.title = el("h2", {});
    this.words = el("p", { class: "caption" });
    this.large = el("div", { class: "large" });
    this.film = el("div", { class: "film", role: "group", "aria-label": "All validations of this sample" });
    this.charts = el("div", { class: "charts" });
    this.aside = el("section", { "aria-label": "Numbers of the sample", hidden: true },
      el("header", {}, el("h2", {}, "This sample")), this.charts);
    this.windows = el("div", { class: "windows" });
    const step = (by, text, title) => el("button", { title, "aria-label": title, onclick: () => app.next(by) }, text);
    this.node = el("section", { class: "sample", "aria-label": "Sample", hidden: true },
      el("header", {}, el("button", { class: "back", onclick: close, title: "Back to all samples (Esc)" }, "← all samples"),
        step(-1, "‹", "Previous sample (up arrow)"), step(1, "›", "Next sample (down arrow)"), this.title, this.words),
      this.large, el("h3", {}, "Over the validations"), this.film,
      el("h3", {}, "Windows that SESS looked through, with the probability of the class in each"), this.windows);
    this.frames = [];
  }

  show(opened) {
    this.node.hidden = this.aside.hidden = !opened;
  }

  // Another sample or run.
  build(sample) {
    const { run, state } = this.app;
    this.sample = sample;
    const known = run.samples[sample];
    this.title.textContent = `${run.className(known.label ?? run.value(this.app.validation, sample, "target"))}`;
    this.title.title = known.name;
    const there = run.shown.filter((one) => one.position.has(sample)); // the worst are others each time
    const every = Math.max(1, Math.ceil(there.length / MOST_FRAMES));
    const last = there.length - 1;
    const chosen = there.filter((one, i) => i % every === 0 || i === last);
    const [width] = panelSize(known, FRAME);
    this.frames = chosen.map((validation) => {
      const canvas = el("canvas", { role: "img" });
      canvas.style.width = `${width}px`;
      const hit = run.value(validation, sample, "hit");
      const node = el("button", { class: `frame ${hit === true ? "hit" : hit === false ? "miss" : ""}`,
        title: `epoch ${validation.epoch}, step ${validation.step}`, onclick: () => this.app.goTo(validation) },
      canvas, el("small", {}, String(validation.epoch)));
      return { validation, canvas, node, look: null };
    });
    this.film.replaceChildren(...this.frames.map(({ node }) => node));
    this.#fillFilm(state.values);
    this.#buildCharts();
  }

  // Frame by frame, so that the page stays quick; those of an older call stop by themselves.
  async #fillFilm(look) {
    const { run } = this.app;
    const token = (this.token = {});
    const kind = look.show === "base" ? "base" : "sess";
    for (const { validation, canvas } of this.frames) {
      await run.atlas(validation).catch(() => null);
      if (this.token !== token) return;
      drawPanels(canvas, [{ run, validation, kind, title: "" }], () => this.sample, FRAME, { ...look, boxes: 0, peaks: 0 });
    }
  }

  #buildCharts() {
    const { sample } = this;
    const { run } = this.app;
    const width = Math.max(220, this.charts.clientWidth || 340);
    const points = (column) => run.validations.map((one) => [one.step, Number(run.value(one, sample, column) ?? NaN)]);
    const line = (name, style, column) => ({ name, style, points: points(column) });
    const plots = [
      ["probability of the class", "", [line("", "sess", "score")], [0, 1]],
      ["peak hits the object", "1 is a hit", [line("SESS", "sess", "hit"), line("base", "base", "base_hit")], [0, 1]],
      ["insertion", "higher is better", [line("SESS", "sess", "insertion_auc"), line("base", "base", "base_insertion_auc")], null],
      ["deletion", "lower is better", [line("SESS", "sess", "deletion_auc"), line("base", "base", "base_deletion_auc")], null],
      ["change since the validation before", "", [line("", "sess", "drift")], null],
    ];
    this.drawn = plots.map(([title, note, lines, range]) => ({
      title, note, range, lines: lines.filter((one) => one.points.some(([, value]) => Number.isFinite(value))),
    })).filter(({ lines }) => lines.length).map((one) => chart({
      ...one, note: one.note ? ` ${one.note}` : "", validations: run.validations, width, height: 96, jump: (v) => this.app.goTo(v),
    }));
    this.charts.replaceChildren(...this.drawn.map(({ node }) => node));
  }

  draw() {
    const { run, validation, state } = this.app;
    const { sample } = this;
    const panels = [{ run, validation, kind: "image", title: "image" }];
    const titles = { base: "base", sess: "SESS", second: `SESS of ${run.className(run.value(validation, sample, "second"))}` };
    for (const [kind, title] of Object.entries(titles)) {
      if (run.box(validation, sample, kind)) panels.push({ run, validation, kind, title });
    }
    if (this.app.together.has(sample)) {
      panels.push({ run: this.app.other, validation: this.app.otherValidation, kind: "sess", title: `SESS of ${this.app.shortName(this.app.other)}` });
    }
    const room = Math.max(280, (this.large.clientWidth || 860) - 8);
    const [width] = panelSize(run.samples[sample], LARGE);
    const perRow = Math.min(panels.length, Math.max(1, Math.floor(room / Math.min(width, 200))));
    const height = Math.max(120, Math.min(LARGE, Math.floor((LARGE * (room / perRow - 6)) / width)));
    const canvases = panels.map((panel) => {
      const canvas = el("canvas", { role: "img", "aria-label": `${panel.title}, epoch ${panel.validation.epoch}` });
      drawPanels(canvas, [panel], this.app.sampleIn(sample), height, state.values);
      return canvas;
    });
    this.large.replaceChildren(...canvases);
    this.words.replaceChildren(...caption(run, validation, sample, false), el("small", {}, ` ${run.samples[sample].name}`));
    for (const { cursor } of this.drawn) cursor(validation);
    for (const frame of this.frames) frame.node.setAttribute("aria-pressed", String(frame.validation === validation));
    this.#drawWindows();
  }

  // For each scale, the picture with its windows in the colours of their scores.
  async #drawWindows() {
    const { run, validation } = this.app;
    const { sample } = this;
    const windows = run.record.windows[run.samples[sample].windows];
    const token = (this.asked = {});
    const all = validation.scores ? await run.scores(validation).catch(() => null) : null;
    const bitmap = await run.image(sample).catch(() => null);
    if (this.asked !== token) return;
    const scores = all && all[validation.position.get(sample)];
    if (!windows || !scores) {
      this.windows.replaceChildren(el("p", { class: "empty" }, "The record holds no scores of windows for this sample."));
      return;
    }
    const scales = new Map();
    windows.forEach(([, , , , height, width], i) => {
      const key = `${width} × ${height}`;
      scales.set(key, [...(scales.get(key) || []), i]);
    });
    this.windows.replaceChildren(...[...scales].map(([name, numbers]) =>
      this.#scale(name, numbers.map((i) => [windows[i], scores[i]]), sample, bitmap)));
  }

  #scale(name, windows, sample, bitmap) {
    const { run, validation, state } = this.app;
    const unit = window.devicePixelRatio || 1;
    const [width, height] = panelSize(run.samples[sample], SCALE);
    const canvas = el("canvas", { width: width * unit, height: height * unit, role: "img",
      "aria-label": `${windows.length} windows of the image at ${name}: ${windows.map(([, score]) => brief(score, 2)).join(", ")}` });
    canvas.style.width = `${width}px`;
    const context = canvas.getContext("2d");
    drawPanel(context, 0, canvas.width, canvas.height, { run, validation, kind: "image", title: "" }, sample, bitmap, { ...state.values, boxes: 0 }, unit);
    context.fillStyle = "rgba(0, 0, 0, 0.35)";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const inset = 2 * unit;
    const written = []; // places of scores: none over another
    for (const [[left, top, right, bottom, scaledHeight, scaledWidth], score] of windows) {
      const [across, down] = [canvas.width / scaledWidth, canvas.height / scaledHeight];
      const box = [left * across + inset, top * down + inset, (right - left) * across - 2 * inset, (bottom - top) * down - 2 * inset];
      if (score === null) continue;
      context.strokeStyle = cssColour(score);
      context.lineWidth = 2 * unit;
      context.strokeRect(...box);
      const [atX, atY] = [box[0] + box[2] / 2, box[1] + box[3] / 2];
      if (written.some(([x, y]) => Math.abs(x - atX) < 28 * unit && Math.abs(y - atY) < 12 * unit)) continue;
      written.push([atX, atY]);
      context.font = `600 ${11 * unit}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.lineWidth = 3 * unit;
      context.strokeStyle = "rgba(0, 0, 0, 0.8)";
      context.strokeText(brief(score, 2), atX, atY);
      context.fillStyle = "#ffffff";
      context.fillText(brief(score, 2), atX, atY);
    }
    const best = Math.max(...windows.map(([, score]) => score ?? 0));
    return el("figure", {}, canvas, el("figcaption", {}, `${name}: ${windows.length}, best ${brief(best, 2)}`));
  }
}
