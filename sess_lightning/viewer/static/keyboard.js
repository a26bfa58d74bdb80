// The keyboard. Keys typed into a select or a slider are theirs, but for the letters.

export const KEYS = [
  ["← →", "validation before, after"],
  ["Home End", "first, last validation"],
  ["Space", "play, pause"],
  ["↑ ↓", "sample before, after"],
  ["Enter", "open the sample"],
  ["Esc", "back to all samples"],
  ["B", "flicker between base and SESS"],
  ["V", "base and SESS side by side"],
  ["O", "boxes"],
  ["P", "peaks"],
  ["+ −", "size of the tiles"],
  ["S", "save picture"],
  ["?", "these keys"],
];

export function listen(app) {
  const { state } = app;
  const flip = (name) => state.set({ [name]: state.values[name] ? 0 : 1 });
  const size = (by) => state.set({ size: Math.min(384, Math.max(96, state.values.size + by)) });
  const actions = {
    ArrowLeft: () => app.move(-1),
    ArrowRight: () => app.move(1),
    ArrowUp: () => app.next(-1),
    ArrowDown: () => app.next(1),
    Home: () => app.goTo(app.run.shown[0]),
    End: () => app.goTo(app.run.shown[app.run.shown.length - 1]),
    " ": () => app.timeline.toggle(),
    Escape: () => state.set({ sample: -1 }),
    b: () => state.set({ show: state.values.show === "base" ? "sess" : "base" }),
    v: () => state.set({ show: state.values.show === "both" ? "sess" : "both" }),
    o: () => flip("boxes"),
    p: () => flip("peaks"),
    "+": () => size(16),
    "-": () => size(-16),
    s: () => app.savePicture(),
    "?": () => app.help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !app.run || !app.run.shown.length || app.help.open) return;
    const { tagName, type } = event.target;
    const own = tagName === "SELECT" || (tagName === "INPUT" && type === "range" && event.target !== app.timeline.slider);
    if (own && event.key.length > 1) return;
    if (tagName === "SELECT" || (event.key === " " && (tagName === "BUTTON" || type === "checkbox"))) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
