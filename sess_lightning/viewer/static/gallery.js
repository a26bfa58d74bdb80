// All followed samples, each image under its map, with the tools that choose and order them.

import { KINDS } from "./colormap.js";
import { el, setOptions } from "./dom.js";
import { FILTERS, SORTS, chosen, classOf, counts } from "./select.js";
import { Tile } from "./tile.js";

const SHOWS = [["sess", "SESS"], ["base", "base"], ["both", "base | SESS"]];

export class Gallery {
  constructor(app) {
    this.app = app;
    this.tiles = new Map(); // by sample
    const { state } = app;
    const select = (name, title) => el("select", { title, "aria-label": title,
      onchange: (event) => state.set({ [name]: event.target.value }) });
    const range = (name, title, min, max, step) => el("input", { type: "range", min, max, step, title, "aria-label": title,
      oninput: (event) => state.set({ [name]: Number(event.target.value) }) });
    const box = (name, title) => el("input", { type: "checkbox", title, "aria-label": title,
      onchange: (event) => state.set({ [name]: Number(event.target.checked) }) });
    this.inputs = {
      opacity: range("opacity", "Opacity of the map", 0, 100, 5),
      size: range("size", "Size of the tiles", 96, 384, 8),
      boxes: box("boxes", "Boxes of the objects (O)"),
      peaks: box("peaks", "Peaks of the maps (P)"),
    };
    this.colours = select("colours", "Colours of the map");
    this.cls = select("cls", "Class of the samples");
    this.sort = select("sort", "Order of the samples");
    this.shows = SHOWS.map(([name, text]) => el("button", { "data-show": name, title: name === "both" ? "Both maps side by side" : `The map of ${text} (B flickers)`,
      onclick: () => state.set({ show: name }) }, text));
    this.filters = FILTERS.map(([name]) => el("button", { "data-only": name, onclick: () => state.set({ only: name }) }));
    const label = (text, input) => el("label", {}, text, input);
    this.tools = el("div", { class: "tools" },
      el("span", { class: "group", role: "group", "aria-label": "Which map" }, ...this.shows),
      label("opacity", this.inputs.opacity), label("size", this.inputs.size), label("boxes", this.inputs.boxes),
      label("peaks", this.inputs.peaks), this.colours);
    this.choosing = el("div", { class: "tools" },
      el("span", { class: "group", role: "group", "aria-label": "Which samples" }, ...this.filters),
      label("class", this.cls), label("order", this.sort));
    this.count = el("output", { class: "count" });
    this.legend = el("p", { class: "hint" }, el("span", { class: "mark hit" }, "○"), " the highest point of the map lies on an object of the class, ",
      el("span", { class: "mark miss" }, "✕"), " it does not. The number is the probability of the class.");
    this.list = el("div", { class: "tilelist" });
    this.node = el("section", { class: "gallery", "aria-label": "Samples" }, this.tools, this.choosing, this.count, this.legend, this.list);
  }

  // New run: forget the tiles.
  build() {
    this.tiles.clear();
  }

  // Show a validation whose atlases are decoded. `changes`: by sample, since the first validation.
  draw(changes) {
    const { run, validation, state } = this.app;
    this.#showTools(run, validation, state.values);
    this.samples = chosen(run, validation, state.values, changes);
    const panels = this.app.panels();
    const nodes = this.samples.map((sample) => {
      if (!this.tiles.has(sample)) this.tiles.set(sample, new Tile(sample, (one) => state.set({ sample: one })));
      const tile = this.tiles.get(sample);
      tile.draw(panels, this.app.sampleIn(sample), state.values);
      return tile.node;
    });
    const same = nodes.length === this.list.children.length && nodes.every((node, i) => node === this.list.children[i]);
    if (!same) {
      const focused = document.activeElement;
      this.list.replaceChildren(...nodes);
      if (nodes.includes(focused)) focused.focus({ preventScroll: true });
    }
    this.#say(run, validation, state.values);
  }

  #showTools(run, validation, values) {
    for (const [name, input] of Object.entries(this.inputs)) {
      if (input.type === "checkbox") input.checked = !!values[name];
      else input.value = values[name];
    }
    for (const button of this.shows) button.setAttribute("aria-pressed", String(button.dataset.show === values.show));
    this.tools.classList.toggle("nobase", !run.hasBase(validation));
    const found = counts(run, validation, values.cls);
    FILTERS.forEach(([name, text], i) => {
      const button = this.filters[i];
      button.textContent = `${text} ${found.get(name)}`;
      button.setAttribute("aria-pressed", String(name === values.only));
      button.hidden = name !== "all" && name !== values.only && !found.get(name);
    });
    setOptions(this.colours, KINDS, values.colours);
    setOptions(this.sort, SORTS.map(([name, text]) => [name, text]), values.sort);
    const classes = new Map();
    for (const i of validation.samples.sample) {
      const cls = classOf(run, validation, i);
      classes.set(cls, (classes.get(cls) || 0) + 1);
    }
    const pairs = [...classes].sort(([a], [b]) => a - b).map(([cls, count]) => [String(cls), `${run.className(cls)} (${count})`]);
    if (values.cls !== "" && !classes.has(Number(values.cls))) pairs.push([values.cls, run.className(Number(values.cls))]);
    setOptions(this.cls, [["", "all classes"], ...pairs], values.cls);
  }

  // What is shown, and what is not there.
  #say(run, validation, values) {
    const { sample } = validation.samples;
    const parts = [`${this.samples.length} of ${sample.length} samples`];
    const random = sample.filter((one) => run.isRandom(validation, one)).length;
    if (random < sample.length) parts.push(`numbers are of the ${random} random ones`);
    if (random < run.followed.size) parts.push(`${run.followed.size - random} had no time in this validation`);
    if (!run.samples.some((one) => one.annotated)) parts.push("no boxes came with the samples, so there are no hits and misses");
    if (!run.hasBase(validation)) parts.push("the base method alone was not compared");
    if (this.app.other && !this.app.together.size) parts.push(`${this.app.shortName(this.app.other)} follows other samples: only the numbers are laid side by side`);
    this.count.textContent = `${parts.join(" · ")}.`;
    this.legend.hidden = !run.samples.some((one) => one.annotated);
    if (!this.samples.length) {
      this.list.replaceChildren(el("p", { class: "empty" }, "No sample is so in this validation. ",
        el("button", { onclick: () => this.app.state.set({ only: "all", cls: "" }) }, "show all")));
    }
  }
}
