// The charts beside the gallery: the main numbers, or one of all that were logged.

import { chart } from "./chart.js";
import { brief, el, setOptions } from "./dom.js";

const BASE = "base_";

function line(run, name, style, key) {
  const intervals = run.validations.map((one) => [one.step, ...((one.intervals || {})[key] || [])]);
  return {
    name,
    style,
    points: run.validations.map((one) => [one.step, one.values[key] ?? NaN]),
    band: intervals.some((one) => one.length === 4) && key === "pointing_acc"
      ? intervals.map(([step, , low, high]) => [step, low ?? NaN, high ?? NaN]) : null,
  };
}

// All keys of a run: those that the record explains first, then what else was logged.
function keysOf(run) {
  const logged = new Set(run.validations.flatMap((one) => Object.keys(one.values)));
  const known = run.record.keys.filter((key) => logged.has(key.name) || logged.has(BASE + key.name));
  const names = new Set(known.flatMap((key) => [key.name, BASE + key.name]));
  const own = [...logged].filter((name) => !names.has(name) && !names.has(name.replace(BASE, "")));
  return [...known, ...own.filter((name) => !name.startsWith(BASE)).map((name) => ({ name, title: name, better: "", per_method: true }))];
}

export class Numbers {
  constructor(app) {
    this.app = app;
    this.choice = el("select", { title: "Which numbers are charted", "aria-label": "Numbers",
      onchange: () => app.state.set({ chart: this.choice.value }) });
    this.table = el("div", { class: "table" });
    this.charts = el("div", { class: "charts" });
    this.node = el("section", { class: "numbers", "aria-label": "Numbers" },
      el("header", {}, el("h2", {}, "Numbers"), this.choice), this.table, this.charts);
    this.drawn = [];
  }

  // Draw anew: the run, the choice or the width has changed.
  build() {
    const { run, other, state } = this.app;
    const keys = keysOf(run);
    setOptions(this.choice, [["", "main numbers"], ...keys.map((key) => [key.name, key.title])], state.values.chart);
    const one = keys.find((key) => key.name === state.values.chart);
    const width = Math.max(220, this.charts.clientWidth || 340);
    const shown = one ? [one] : keys.filter((key) => key.per_method);
    this.drawn = shown.map((key) => chart({
      title: key.title,
      note: key.better ? ` ${key.better} is better` : "",
      lines: this.#lines(run, other, key.name),
      level: (run.record.no_skill || {})[key.name],
      validations: run.validations,
      width,
      height: one ? 240 : 104,
      jump: (validation) => this.app.goTo(validation),
    }));
    this.charts.replaceChildren(...this.drawn.map(({ node }) => node));
    this.keys = keys;
  }

  #lines(run, other, key) {
    const lines = [line(run, "SESS", "sess", key)];
    if (run.validations.some((one) => (BASE + key) in one.values)) lines.push(line(run, "base", "base", BASE + key));
    else lines[0].name = "";
    if (other) {
      lines.push({ ...line(other, `SESS of ${this.app.shortName(other)}`, "sess other", key), band: null });
      if (lines.length > 2) lines.push({ ...line(other, "its base", "base other", BASE + key), band: null });
    }
    return lines.filter((one) => one.points.some(([, value]) => Number.isFinite(value)));
  }

  // Move the cursor, and show the validation's numbers with their intervals.
  cursor(validation) {
    for (const { cursor } of this.drawn) cursor(validation);
    const rows = this.keys.filter((key) => key.per_method && Number.isFinite(validation.values[BASE + key.name]));
    const cell = (text) => el("td", {}, text);
    this.table.replaceChildren(!rows.length ? "" : el("table", {},
      el("tr", {}, ...["", "base", "SESS", "SESS − base"].map((text) => el("th", {}, text))),
      ...rows.map((key) => {
        const [own, base] = [validation.values[key.name], validation.values[BASE + key.name]];
        const interval = (validation.intervals || {})[`${key.name}_gain`];
        const ends = interval && interval.slice(1).every(Number.isFinite)
          ? ` [${signed(interval[1])}, ${signed(interval[2])}]` : "";
        const sure = ends && interval[1] * interval[2] > 0;
        const good = sure && key.better && (interval[0] > 0) === (key.better === "higher");
        return el("tr", {}, el("th", {}, key.title), cell(brief(base)), cell(brief(own)),
          el("td", { class: sure ? (good ? "good" : "bad") : "", title: ends ? "with its 95 % interval over the samples" : null },
            signed(own - base), el("small", {}, ends)));
      })));
  }
}

function signed(value) {
  return Number.isFinite(value) ? (value > 0 ? "+" : value < 0 ? "−" : "") + brief(Math.abs(value)) : "–";
}
