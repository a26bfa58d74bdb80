// The tab of TensorBoard, which loads this module into a frame and calls render().

import { App } from "./app.js";
import { el } from "./dom.js";
import { HttpStore } from "./store.js";

const PART = "p.sess.view=";

// TensorBoard keeps its own address in the hash of the page around; parts that it does not know stay untouched.
function parts() {
  try {
    return window.parent.location.hash.replace(/^#/, "").split("&");
  } catch {
    return [];
  }
}

const place = {
  read: () => decodeURIComponent((parts().find((part) => part.startsWith(PART)) || PART).slice(PART.length)),
  write: (text) => {
    const others = parts().filter((part) => part && !part.startsWith(PART));
    const hash = [...others, ...(text ? [PART + encodeURIComponent(text)] : [])].join("&");
    try {
      window.parent.history.replaceState(window.parent.history.state, "", `#${hash}`);
    } catch {
      // A page that forbids it: the view works, only its link does not.
    }
  },
};

export async function render() {
  const base = new URL("./", import.meta.url).href;
  document.head.append(el("link", { rel: "stylesheet", href: `${base}style.css` }));
  const store = new HttpStore(base);
  store.address = () => {
    try {
      return window.parent.location.href;
    } catch {
      return location.href;
    }
  };
  store.dark = () => {
    try {
      return window.parent.document.body.classList.contains("dark-mode");
    } catch {
      return false;
    }
  };
  const colours = await (await fetch(`${base}colormap.json`)).json();
  const app = new App(store, place, document.body.appendChild(el("div")), colours);
  window.sess = app;
  await app.start();
}
