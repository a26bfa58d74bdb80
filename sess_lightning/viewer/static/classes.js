// A row for each class over the validations: where a class begins to go wrong is seen at once, and a click goes there.

import { brief, el, setOptions } from "./dom.js";
import { MEASURES, byClass } from "./select.js";

const MOST = 14; // rows, until more are asked for
const HEIGHT = 16;

// How far a class has fallen from its best validation to the last one.
function fall(cells) {
  const values = cells.map((cell) => cell.value).filter(Number.isFinite);
  return values.length ? Math.max(...values) - values[values.length - 1] : -1;
}

export class Classes {
  constructor(app) {
    this.app = app;
    this.all = false;
    this.choice = el("select", { title: "What the rows show", "aria-label": "Measure of the classes",
      onchange: () => app.state.set({ measure: this.choice.value }) });
    this.rows = el("div", { class: "rows" });
    this.node = el("section", { class: "classes", "aria-label": "Classes" },
      el("header", {}, el("h2", {}, "Classes"), this.choice),
      el("p", { class: "hint" }, "Dark is high. Largest fall first; a click goes to that epoch and class."), this.rows);
  }

  show(wanted) {
    this.node.hidden = !wanted || !this.some;
  }

  build() {
    const { run, state } = this.app;
    const there = MEASURES.filter(([name]) => run.has(name));
    const measure = there.some(([name]) => name === state.values.measure) ? state.values.measure : (there[0] || [""])[0];
    setOptions(this.choice, there.map(([name, text]) => [name, text]), measure);
    const found = measure ? byClass(run, measure) : new Map();
    const ordered = [...found].sort(([, a], [, b]) => fall(b) - fall(a));
    const range = measure === "overall" ? extent(found) : [0, 1];
    this.drawn = ordered.slice(0, this.all ? undefined : MOST).map(([cls, cells]) => this.#row(cls, cells, range));
    const more = ordered.length - this.drawn.length;
    const toggle = (all) => () => { this.all = all; this.build(); this.cursor(this.app.validation); };
    this.rows.replaceChildren(...this.drawn.map(({ node }) => node),
      more ? el("button", { class: "more", onclick: toggle(true) }, `${more} more classes`)
        : this.all && ordered.length > MOST ? el("button", { class: "more", onclick: toggle(false) }, "fewer classes") : "");
    this.some = ordered.length > 1;
    this.show(!this.node.hidden);
  }

  #row(cls, cells, range) {
    const { run, state } = this.app;
    const name = run.className(cls);
    const value = el("output", {});
    const canvas = el("canvas", { width: 200, height: HEIGHT, role: "img", "aria-label": `${name} over the validations`,
      onclick: (event) => {
        const at = Math.floor((event.offsetX / canvas.clientWidth) * cells.length);
        this.app.goTo(run.shown[Math.min(cells.length - 1, Math.max(0, at))], { cls: String(cls), sample: -1 });
      } });
    const pick = el("button", { class: "name", title: `Show only ${name}`,
      onclick: () => state.set({ cls: state.values.cls === String(cls) ? "" : String(cls), sample: -1 }) }, name);
    return { cls, cells, range, canvas, value, pick, node: el("div", { class: "row" }, pick, canvas, value) };
  }

  cursor(validation) {
    const at = this.app.run.shown.indexOf(validation);
    const style = getComputedStyle(document.documentElement);
    const [high, low, needle] = ["--high", "--low", "--needle"].map((name) => style.getPropertyValue(name).trim());
    for (const { cls, cells, range, canvas, value, pick } of this.drawn) {
      const context = canvas.getContext("2d");
      const width = canvas.width / cells.length;
      context.clearRect(0, 0, canvas.width, HEIGHT);
      cells.forEach((cell, i) => {
        if (!Number.isFinite(cell.value)) return;
        context.globalAlpha = 1;
        context.fillStyle = low;
        context.fillRect(i * width, 0, Math.max(1, width - (width > 4 ? 1 : 0)), HEIGHT);
        context.globalAlpha = Math.min(1, Math.max(0, (cell.value - range[0]) / (range[1] - range[0])));
        context.fillStyle = high;
        context.fillRect(i * width, 0, Math.max(1, width - (width > 4 ? 1 : 0)), HEIGHT);
      });
      context.globalAlpha = 1;
      context.strokeStyle = needle;
      context.lineWidth = 2;
      context.strokeRect(at * width + 1, 1, Math.max(2, width - 2), HEIGHT - 2);
      const cell = cells[at];
      value.textContent = cell ? brief(cell.value, 2) : "";
      value.title = cell ? `mean of ${cell.count} samples` : "";
      pick.setAttribute("aria-pressed", String(this.app.state.values.cls === String(cls)));
    }
  }
}

function extent(found) {
  const values = [...found.values()].flat().map((cell) => cell.value).filter(Number.isFinite);
  return [Math.min(...values), Math.max(...values) + 1e-9];
}
