// What is shown, in one object. It stands in the address, so that a link opens the same view.

export const DEFAULTS = {
  run: "", // name of the run
  other: "", // name of the run beside it
  at: -1, // number of the validation, -1: the last one
  show: "sess", // sess, base, both
  opacity: 60, // per cent of the map's colour
  size: 160, // height of a tile in pixels
  boxes: 1,
  peaks: 1,
  colours: "colours",
  cls: "", // class that samples are of
  only: "all",
  sort: "order",
  chart: "", // key of the chart; "": the main numbers
  measure: "", // of the table of classes; "": hits, or what there is
  sample: -1, // opened sample, -1: the gallery
  theme: "auto",
  follow: 0, // load the page again while training writes
};

export class State {
  constructor(read, write) {
    this.listeners = [];
    this.write = write;
    this.values = { ...DEFAULTS, ...parsed(read()) };
  }

  // Change values; the listeners are called with the names of those that differ.
  set(changes) {
    const names = Object.keys(changes).filter((name) => this.values[name] !== changes[name]);
    if (!names.length) return;
    Object.assign(this.values, changes);
    clearTimeout(this.writing); // the slider changes it faster than browsers let an address be written
    this.writing = setTimeout(() => this.flush(), 150);
    for (const listener of this.listeners) listener(new Set(names));
  }

  // Write the address now.
  flush() {
    clearTimeout(this.writing);
    this.write(formatted(this.values));
  }

  listen(listener) {
    this.listeners.push(listener);
  }
}

function parsed(text) {
  const found = {};
  for (const [name, value] of new URLSearchParams(text)) {
    if (!(name in DEFAULTS)) continue;
    const number = typeof DEFAULTS[name] === "number";
    if (!number) found[name] = value;
    else if (Number.isFinite(parseFloat(value))) found[name] = parseFloat(value);
  }
  return found;
}

export function formatted(values) {
  const differing = Object.entries(values).filter(([name, value]) => value !== DEFAULTS[name]);
  return new URLSearchParams(differing).toString();
}
