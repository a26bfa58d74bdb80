// The page: puts the parts together, follows the state, and reads runs.

import { Alarms } from "./alarms.js";
import { Classes } from "./classes.js";
import { distance, setTable } from "./colormap.js";
import { el, setOptions } from "./dom.js";
import { Gallery } from "./gallery.js";
import { KEYS, listen } from "./keyboard.js";
import { Numbers } from "./numbers.js";
import { Run } from "./run.js";
import { SamplePage } from "./sample.js";
import { download, pictureOf } from "./save.js";
import { State } from "./state.js";
import { Timeline } from "./timeline.js";

const POLL = 10_000; // milliseconds between two looks for new validations
const REST = 400; // milliseconds without a step until files are fetched that nobody asked for yet
const THEMES = [["auto", "auto"], ["light", "light"], ["dark", "dark"]];

export class App {
  // store: store.js; place: {read(), write(text)} of the state in the address; root: element to fill.
  constructor(store, place, root, colours) {
    setTable(colours);
    this.store = store;
    this.state = new State(place.read, place.write);
    this.loaded = new Map(); // runs by name
    this.together = new Map(); // by sample of the run, that of the other run with the same pixels
    this.drawn = Promise.resolve();
    this.root = root;
    this.#build();
    this.state.listen((names) => this.#changed(names));
    listen(this);
  }

  #build() {
    const { state } = this;
    this.runs = el("select", { title: "Run", "aria-label": "Run", onchange: () => state.set({ run: this.runs.value, at: -1, sample: -1 }) });
    this.others = el("select", { title: "Run beside it", "aria-label": "Run beside it", onchange: () => state.set({ other: this.others.value }) });
    this.themes = el("select", { title: "Light or dark", "aria-label": "Light or dark", onchange: () => state.set({ theme: this.themes.value }) });
    this.followBox = el("input", { type: "checkbox", onchange: () => state.set({ follow: Number(this.followBox.checked) }) });
    this.follow = el("label", { title: "Load this page again every half minute while training writes it" }, this.followBox, "follow");
    this.message = el("div", { class: "message", role: "status", hidden: true });
    this.timeline = new Timeline(this);
    this.gallery = new Gallery(this);
    this.numbers = new Numbers(this);
    this.alarms = new Alarms(this);
    this.classes = new Classes(this);
    this.page = new SamplePage(this);
    this.help = el("dialog", { class: "help" }, el("h2", {}, "Keys"),
      el("dl", {}, ...KEYS.flatMap(([key, text]) => [el("dt", {}, key), el("dd", {}, text)])),
      el("button", { onclick: () => this.help.close() }, "close"));
    const button = (text, title, onclick) => el("button", { title, onclick }, text);
    this.view = el("main", {}, el("div", { class: "stage" }, this.gallery.node, this.page.node),
      el("aside", {}, this.page.aside, this.classes.node, this.numbers.node));
    this.root.replaceChildren(
      el("header", { class: "bar" }, el("h1", {}, "SESS"), el("label", {}, "run", this.runs), el("label", {}, "beside", this.others),
        el("span", { class: "space" }), this.store.live ? "" : this.follow,
        button("copy link", "Copy the address of this view", () => this.copyLink()),
        button("save picture", "Save a PNG of what is shown (S)", () => this.savePicture()),
        el("label", {}, this.themes), button("?", "Keys", () => this.help.showModal())),
      this.timeline.node, this.message, this.alarms.node, this.view, this.help);
  }

  async start() {
    this.#theme();
    try {
      this.list = await this.store.runs();
      const good = this.list.filter((one) => !one.error);
      if (!this.list.length) {
        this.#stop("No run here has a record yet. Train with SESSCallback(), which writes one with its first validation (record=True is the default).");
      } else if (!good.length) this.#stop(this.list.map((one) => `${one.name}: ${one.error}`).join(" "));
      else await this.#open();
    } catch (error) {
      this.#stop(String(error.message || error));
    }
    if (this.store.live) setInterval(() => !document.hidden && this.#poll(), POLL);
    else setInterval(() => this.state.values.follow && !document.hidden && this.state.values.at < 0 && location.reload(), 3 * POLL);
    addEventListener("resize", () => { clearTimeout(this.resizing); this.resizing = setTimeout(() => this.run && this.#rebuild(), 150); });
  }

  #stop(text) {
    this.#say(text);
    this.view.hidden = this.timeline.node.hidden = this.alarms.node.hidden = true;
  }

  #say(text) {
    this.message.textContent = text;
    this.message.hidden = !text;
  }

  async #load(name) {
    if (!this.loaded.has(name)) {
      const run = new Run(name, this.store, await this.store.record(name));
      if (run.shown.length) this.loaded.set(name, run);
      return run;
    }
    return this.loaded.get(name);
  }

  // Read the runs that the state names, and show them.
  async #open() {
    const { values } = this.state;
    const names = this.list.map((one) => one.name);
    const first = this.list.find((one) => !one.error).name;
    const name = names.includes(values.run) ? values.run : first;
    const problems = this.list.filter((one) => one.error).map((one) => `${one.name}: ${one.error}`);
    this.run = await this.#load(name);
    if (!this.run.shown.length) {
      this.#stop(`${name}: no validation has ended yet.`);
      return;
    }
    this.other = null;
    if (values.other && values.other !== name && names.includes(values.other)) {
      const other = await this.#load(values.other).catch((error) => { problems.push(String(error.message)); return null; });
      this.other = other && other.shown.length ? other : null;
    }
    this.#pair();
    const options = this.list.map((one) => [one.name, this.shortName(one), one.error]);
    setOptions(this.runs, options, name);
    setOptions(this.others, [["", "none"], ...options.filter(([one]) => one !== name)], this.other ? this.other.name : "");
    this.others.parentNode.hidden = this.list.length < 2;
    this.problems = problems.join(" ");
    this.#say(this.problems);
    this.view.hidden = this.timeline.node.hidden = false;
    this.#rebuild();
    await this.drawn;
  }

  #pair() {
    this.together = new Map();
    if (!this.other) return;
    const numbers = new Map(this.other.samples.map((one, i) => [one.id, i]));
    this.run.samples.forEach((one, i) => numbers.has(one.id) && this.together.set(i, numbers.get(one.id)));
  }

  #rebuild() {
    this.builtSample = undefined;
    this.gallery.build();
    this.numbers.build();
    this.classes.build();
    this.drawn = this.#draw();
  }

  // The validation that the state asks for: the one it names, or the last.
  get wanted() {
    const { shown } = this.run;
    return shown.find((one) => one.number === this.state.values.at) || shown[shown.length - 1];
  }

  // The validation on the screen: that one, as soon as its maps are decoded.
  get validation() {
    return this.run.shown.includes(this.current) ? this.current : this.wanted;
  }

  get otherValidation() {
    return this.other && this.other.nearest(this.validation);
  }

  // The usual record of a log folder goes by the folder's name; others keep their own, so that names differ.
  shortName(run) {
    return run.name.replace(/\/sess_record$/, "").replace(/_record(-v\d+)?$/, "$1");
  }

  // What a tile shows, side by side.
  panels() {
    const { show } = this.state.values;
    const base = this.run.hasBase(this.validation);
    const kinds = show === "both" && base ? ["base", "sess"] : [show === "base" && base ? "base" : "sess"];
    const runs = [[this.run, this.validation], ...(this.together.size ? [[this.other, this.otherValidation]] : [])];
    const many = kinds.length * runs.length > 1;
    return runs.flatMap(([run, validation]) => kinds.map((kind) => ({ run, validation, kind,
      title: !many ? "" : [runs.length > 1 ? this.shortName(run) : "", kinds.length > 1 || runs.length < 2 ? { sess: "SESS", base: "base" }[kind] : ""].filter(Boolean).join(" · ") })));
  }

  // Number of a sample in either run.
  sampleIn(sample) {
    return (run) => (run === this.run ? sample : this.together.get(sample));
  }

  goTo(validation, changes = {}) {
    const { shown } = this.run;
    const there = shown.includes(validation) ? validation
      : shown.reduce((best, one) => (Math.abs(one.step - validation.step) < Math.abs(best.step - validation.step) ? one : best));
    this.state.set({ at: there === shown[shown.length - 1] ? -1 : there.number, ...changes });
  }

  move(by) {
    const { shown } = this.run;
    const at = shown.indexOf(this.wanted) + by;
    this.goTo(shown[Math.min(shown.length - 1, Math.max(0, at))]);
  }

  // Open the next sample, or move the focus in the gallery.
  next(by) {
    const { samples } = this.gallery;
    if (!samples.length) return;
    const opened = this.state.values.sample;
    if (opened >= 0) {
      const at = samples.indexOf(opened);
      this.state.set({ sample: samples[(at + by + samples.length) % samples.length] });
      return;
    }
    const tiles = [...this.gallery.list.children];
    const at = tiles.indexOf(document.activeElement);
    tiles[at < 0 ? 0 : (at + by + tiles.length) % tiles.length].focus();
  }

  #changed(names) {
    if (names.has("theme")) this.#theme();
    if (names.has("run") || names.has("other")) {
      this.timeline.stop();
      this.drawn = this.#open().catch((error) => this.#say(String(error.message || error)));
      return;
    }
    if (!this.run || !this.run.shown.length) return;
    if (names.has("chart")) this.numbers.build();
    if (names.has("measure")) this.classes.build();
    if (["show", "colours", "opacity"].some((name) => names.has(name))) this.builtSample = undefined;
    this.drawn = this.#draw();
  }

  // Draws what the state asks for as soon as its maps are decoded. A slider that is dragged asks faster than that: what
  // it passes is drawn as it comes, unless something later is drawn already.
  async #draw() {
    const turn = (this.turn = (this.turn || 0) + 1);
    const { values } = this.state;
    const { run, other, wanted } = this;
    try {
      await run.atlas(wanted);
      if (other) await other.atlas(other.nearest(wanted));
      const changes = values.sort === "first" ? await this.#changes(wanted) : new Map();
      if (turn < this.drawnTurn || run !== this.run || other !== this.other) return;
      this.drawnTurn = turn;
      this.#ahead(wanted);
      this.current = wanted;
      this.#say(this.problems); // without that of a validation that could not be shown
      this.#show(changes);
    } catch (error) {
      this.#say(`Epoch ${wanted.epoch} cannot be shown: ${error.message || error}`);
    }
  }

  #show(changes) {
    const { validation } = this;
    const { values } = this.state;
    this.timeline.show(validation);
    this.alarms.show(validation);
    this.numbers.cursor(validation);
    this.classes.cursor(validation);
    this.themes.value = values.theme;
    this.followBox.checked = !!values.follow;
    const opened = values.sample >= 0 && validation.position.has(values.sample);
    this.#scroll(opened);
    this.gallery.node.hidden = opened;
    this.page.show(opened);
    this.classes.show(!opened);
    this.numbers.node.hidden = opened;
    if (!opened || !this.gallery.samples) this.gallery.draw(changes);
    if (opened) {
      if (this.builtSample !== values.sample) this.page.build(values.sample);
      this.builtSample = values.sample;
      this.page.draw();
    }
  }

  // A sample opens at its top; the gallery comes back where it was.
  #scroll(opened) {
    if (opened === this.gallery.node.hidden) return;
    if (opened) this.above = scrollY;
    requestAnimationFrame(() => scrollTo(0, opened ? 0 : this.above || 0));
  }

  // By sample, how far its map is from the first validation's.
  async #changes(validation) {
    const { run } = this;
    const [first] = run.shown;
    const [before, now] = [await run.atlas(first), await run.atlas(validation)];
    return new Map(validation.samples.sample.map((sample) => [sample,
      distance(run.tile(now, validation, sample, "sess"), run.tile(before, first, sample, "sess")) ?? NaN]));
  }

  // Decodes the validations that come next in the direction of the last move, once this one is on the screen; after a
  // while of rest the files of the others are fetched.
  #ahead(validation) {
    const { run } = this;
    const { shown } = run;
    const at = shown.indexOf(validation);
    const back = this.at > at ? -1 : 1;
    this.at = at;
    requestAnimationFrame(() => setTimeout(() => {
      if (this.run !== run || this.wanted !== validation) return;
      for (const by of [1, 2, 3, -1]) if (shown[at + back * by]) run.atlas(shown[at + back * by]).catch(() => {});
    }));
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      const wanted = () => this.run === run && this.wanted === validation && !document.hidden;
      run.files.ahead(shown.map((one) => one.number), wanted);
    }, REST);
  }

  // New validations of a training that runs; who looks at the last one goes on to the new last.
  async #poll() {
    try {
      const list = await this.store.runs();
      const stamps = new Map((this.list || []).map((one) => [one.name, one.stamp]));
      const newer = list.filter((one) => !one.error && this.loaded.has(one.name) && stamps.get(one.name) !== one.stamp);
      const differs = JSON.stringify(list.map(({ name, error }) => [name, error])) !== JSON.stringify((this.list || []).map(({ name, error }) => [name, error]));
      this.list = list;
      for (const { name } of newer) {
        const { record, validations, withMaps } = await this.store.record(name);
        const run = this.loaded.get(name);
        run.record = record;
        run.take(validations, withMaps);
      }
      const waiting = this.run && !this.run.shown.length;
      if (newer.length || differs || waiting) await (list.some((one) => !one.error) ? this.#open() : null);
    } catch {
      // The server was stopped or is busy: the next look tells.
    }
  }

  #theme() {
    const { theme } = this.state.values;
    setOptions(this.themes, THEMES, theme);
    const outside = this.store.dark ? this.store.dark() : matchMedia("(prefers-color-scheme: dark)").matches;
    const dark = theme === "auto" ? outside : theme === "dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    if (this.run) this.classes.cursor(this.validation);
  }

  async copyLink() {
    this.state.flush();
    const address = this.store.address ? this.store.address() : location.href;
    try {
      await navigator.clipboard.writeText(address);
      this.#say("The address of this view is copied.");
    } catch {
      this.#say(`The address of this view: ${address}`);
    }
    setTimeout(() => this.#say(""), 4000);
  }

  async savePicture() {
    const { validation, run } = this;
    const opened = !this.page.node.hidden;
    const items = opened
      ? [...this.page.large.children, ...this.page.frames.map(({ canvas }) => canvas)].map((canvas) => ({ canvas, text: "" }))
      : this.gallery.samples.map((sample) => ({ canvas: this.gallery.tiles.get(sample).canvas, text: run.className(run.value(validation, sample, "target")) }));
    const title = [`${this.shortName(run)} · epoch ${validation.epoch} · step ${validation.step}`, opened ? this.page.title.textContent : this.gallery.count.textContent];
    const blob = await pictureOf(items, title, document.documentElement.dataset.theme === "dark");
    download(blob, `sess-epoch-${validation.epoch}.png`);
  }
}
