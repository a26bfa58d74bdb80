// The slider over the validations, with play.

import { el } from "./dom.js";

const PAUSE = 450; // milliseconds between two validations

export class Timeline {
  constructor(app) {
    this.app = app;
    this.timer = null;
    this.play = el("button", { class: "play", title: "Play (space)", "aria-label": "Play", onclick: () => this.toggle() }, "▶");
    this.slider = el("input", { type: "range", min: 0, step: 1, "aria-label": "Validation",
      oninput: () => app.goTo(app.run.shown[Number(this.slider.value)]) });
    this.label = el("output", { class: "when" });
    const step = (by, title, text) => el("button", { title, "aria-label": title, onclick: () => app.move(by) }, text);
    this.node = el("section", { class: "timeline", "aria-label": "Time" }, this.play,
      step(-1, "Earlier (left arrow)", "‹"), this.slider, step(1, "Later (right arrow)", "›"), this.label);
  }

  show(validation) {
    const { shown, validations } = this.app.run;
    const at = shown.indexOf(validation);
    this.slider.max = shown.length - 1;
    this.slider.value = at;
    this.slider.disabled = this.play.disabled = shown.length < 2;
    this.slider.setAttribute("aria-valuetext", `epoch ${validation.epoch}, step ${validation.step}`);
    const thinned = shown.length < validations.length ? `, maps of ${shown.length} of ${validations.length} validations` : "";
    this.label.replaceChildren(el("b", {}, `epoch ${validation.epoch}`),
      ` · step ${validation.step} · ${at + 1} of ${shown.length}${thinned}`);
  }

  toggle() {
    if (this.timer) {
      this.stop();
      return;
    }
    const { shown } = this.app.run;
    if (shown.indexOf(this.app.validation) === shown.length - 1) this.app.goTo(shown[0]);
    this.play.textContent = "❚❚";
    this.play.setAttribute("aria-label", "Pause");
    const tick = async () => {
      this.app.move(1);
      await this.app.drawn;
      const ended = this.app.validation === this.app.run.shown[this.app.run.shown.length - 1];
      if (this.timer && !ended) this.timer = setTimeout(tick, PAUSE);
      else this.stop();
    };
    this.timer = setTimeout(tick, PAUSE);
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.play.textContent = "▶";
    this.play.setAttribute("aria-label", "Play");
  }
}
