// Elements. Text always becomes a text node, so that names from the user's data are never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// An HTML element: el("button", {title: "Play", onclick: f}, "▶").
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// An SVG element.
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A select whose options are [value, text] pairs; keeps the element, so that the keyboard's focus stays.
export function setOptions(select, pairs, chosen) {
  const known = JSON.stringify(pairs);
  if (select.dataset.pairs !== known) {
    select.replaceChildren(...pairs.map(([value, text, off]) => el("option", { value, disabled: !!off }, text)));
    select.dataset.pairs = known;
  }
  select.value = chosen;
}

// A number for people: .613, 8.9, 1200.
export function brief(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const text = Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) >= 10 ? 1 : digits);
  return text.replace(/^(-?)0\./, "$1.");
}
