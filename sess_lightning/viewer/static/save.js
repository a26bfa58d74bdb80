// A PNG of what is shown: the tiles or the opened sample, with a title.

const MARGIN = 16, LINE = 20, WIDTH = 1200;

// items: [{canvas, text}] in order; title: lines of words. Returns a promise of a Blob.
export function pictureOf(items, title, dark) {
  const sizes = items.map(({ canvas }) => [canvas.clientWidth || canvas.width, canvas.clientHeight || canvas.height]);
  const places = [];
  let [x, y, tallest, widest] = [MARGIN, MARGIN + LINE * title.length + 8, 0, 0];
  for (const [width, height] of sizes) {
    if (x > MARGIN && x + width + MARGIN > WIDTH) {
      y += tallest + LINE + 8;
      [x, tallest] = [MARGIN, 0];
    }
    places.push([x, y]);
    x += width + 8;
    widest = Math.max(widest, x);
    tallest = Math.max(tallest, height);
  }
  const canvas = document.createElement("canvas");
  const unit = window.devicePixelRatio || 1;
  canvas.width = Math.max(widest + MARGIN - 8, 640) * unit;
  canvas.height = (y + tallest + LINE + MARGIN) * unit;
  const context = canvas.getContext("2d");
  context.scale(unit, unit);
  context.fillStyle = dark ? "#16161d" : "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = dark ? "#ececf1" : "#1b1b22";
  title.forEach((text, i) => {
    context.font = `${i ? "" : "600 "}14px system-ui, sans-serif`;
    context.fillText(text, MARGIN, MARGIN + LINE * i + 12);
  });
  context.font = "12px system-ui, sans-serif";
  items.forEach(({ canvas: one, text }, i) => {
    context.drawImage(one, ...places[i], ...sizes[i]);
    context.fillText(text, places[i][0], places[i][1] + sizes[i][1] + 14, sizes[i][0]);
  });
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
