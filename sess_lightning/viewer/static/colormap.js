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

const scratch = new Map(); // by size: a canvas with its image data, used again and again

// A canvas with a map in colours at its own size, valid until the next call.
//   atlas: {width, bytes}; box: [x, y, width, height] of the map in it
export function painted({ width: stride, bytes }, [left, top, width, height], kind) {
  const size = `${width} ${height}`;
  if (!scratch.has(size)) {
    const made = new OffscreenCanvas(width, height);
    scratch.set(size, { canvas: made, context: made.getContext("2d"), image: new ImageData(width, height) });
  }
  const { canvas, context, image } = scratch.get(size);
  const out = new Uint32Array(image.data.buffer);
  const table = tableOf(kind);
  for (let row = 0, at = 0; row < height; row++) {
    const start = (top + row) * stride + left;
    for (let column = 0; column < width; column++) out[at++] = table[bytes[start + column]];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const tables = new Map(); // by kind: the 256 colours with their opacity, as the canvas stores them

function tableOf(kind) {
  if (!tables.has(kind)) {
    const rows = Array.from({ length: 256 }, (_, value) => {
      if (kind === "spotlight") return [0, 0, 0, 255 - value]; // black, which hides what is not salient
      if (kind === "grey") return [value, value, value, 255];
      return [...colours.subarray(3 * value, 3 * value + 3), 255];
    });
    tables.set(kind, new Uint32Array(Uint8Array.from(rows.flat()).buffer));
  }
  return tables.get(kind);
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
