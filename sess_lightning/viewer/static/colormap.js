// The colours of saliency. Their table is colormap.json, which render/colormap.py reads too.

let colours = null;

// Takes the 256 colours, "rrggbb" each, lowest first.
export function setTable(hex) {
  colours = Uint8Array.from(hex.flatMap((one) => [0, 2, 4].map((at) => parseInt(one.slice(at, at + 2), 16))));
}

export const KINDS = [
  ["colours", "violet to yellow"],
  ["grey", "grey"],
  ["spotlight", "spotlight"],
];

// CSS colour of a value in [0, 1].
export function cssColour(value) {
  const at = 3 * Math.round(255 * Math.min(1, Math.max(0, value)));
  return `rgb(${colours[at]}, ${colours[at + 1]}, ${colours[at + 2]})`;
}

// A canvas with maps of bytes `{width, height, bytes}` in colours, at their own size.
export function painted(map, kind) {
  const canvas = document.createElement("canvas");
  canvas.width = map.width;
  canvas.height = map.height;
  const image = new ImageData(map.width, map.height);
  const out = image.data;
  for (let i = 0, at = 0; i < map.bytes.length; i++, at += 4) {
    const value = map.bytes[i];
    if (kind === "spotlight") {
      out[at + 3] = 255 - value; // black, which hides what is not salient
    } else if (kind === "grey") {
      out[at] = out[at + 1] = out[at + 2] = value;
      out[at + 3] = 255;
    } else {
      out[at] = colours[3 * value];
      out[at + 1] = colours[3 * value + 1];
      out[at + 2] = colours[3 * value + 2];
      out[at + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// One minus the cosine similarity of two maps; null where one is all zeros or they differ in size.
export function distance(one, other) {
  if (!one || !other || one.bytes.length !== other.bytes.length) return null;
  let product = 0, first = 0, second = 0;
  for (let i = 0; i < one.bytes.length; i++) {
    product += one.bytes[i] * other.bytes[i];
    first += one.bytes[i] ** 2;
    second += other.bytes[i] ** 2;
  }
  return first && second ? 1 - product / Math.sqrt(first * second) : null;
}
