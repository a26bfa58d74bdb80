// The report: everything is in the page itself, and the state in its hash.

import { App } from "./app.js";
import { el } from "./dom.js";
import { InlineStore } from "./store.js";

export async function showReport() {
  const place = {
    read: () => location.hash.slice(1),
    write: (text) => history.replaceState(null, "", `#${text}`),
  };
  const colours = JSON.parse(document.getElementById("sess-colours").textContent);
  const app = new App(new InlineStore(), place, document.body.appendChild(el("div")), colours);
  window.sess = app;
  addEventListener("hashchange", () => location.reload());
  await app.start();
}
