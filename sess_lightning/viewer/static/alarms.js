// What the network goes by instead of objects, in sentences; a click shows the samples of that class.

import { el } from "./dom.js";

export class Alarms {
  constructor(app) {
    this.app = app;
    this.list = el("ul", {});
    this.node = el("section", { class: "alarms", role: "status", "aria-label": "Alarms", hidden: true }, this.list);
  }

  show(validation) {
    const found = validation.alarms || [];
    this.node.hidden = !found.length;
    this.list.replaceChildren(...found.map(({ text, class: cls }) => el("li", {}, cls === null || cls === undefined ? text
      : el("button", { title: "Show the samples of this class",
        onclick: () => this.app.state.set({ cls: String(cls), sample: -1 }) }, text))));
  }
}
