// One run: its record, its validations, and its pictures as they are needed. Memory is bounded by the caches.

import { Files } from "./files.js";

const MOST_ATLASES = 40; // decoded: about a megabyte each at 64 samples

export class Run {
  constructor(name, store, { record, validations, withMaps }) {
    this.name = name;
    this.store = store;
    this.record = record;
    this.files = new Files((number) => store.maps(name, number), store.live);
    this.images = new Map(); // by sample: promise of an ImageBitmap
    this.bitmaps = new Map(); // of those, the ones that are there
    this.atlases = new Map(); // by number, least recently used first: promise of {width, height, bytes}
    this.ready = new Map(); // of those, the ones that are decoded
    this.take(validations, withMaps);
  }

  // All validations, and those whose maps can be shown: a report is thinned.
  take(validations, withMaps) {
    this.validations = validations;
    for (const one of validations) {
      one.position = new Map(one.samples.sample.map((sample, position) => [sample, position]));
    }
    const numbers = withMaps && new Set(withMaps);
    this.shown = validations.filter((one) => one.maps && (!numbers || numbers.has(one.number)));
    this.followed = new Set(validations.flatMap((one) => one.samples.sample.filter((sample) => this.isRandom(one, sample))));
  }

  get samples() {
    return this.record.samples;
  }

  className(index) {
    if (index === null || index === undefined || index < 0) return "unknown";
    const names = this.record.class_names;
    return (names && names[index]) || `class ${index}`;
  }

  // A value of one sample in one validation; undefined where it has none.
  value(validation, sample, column) {
    const position = validation.position.get(sample);
    if (position === undefined) return undefined;
    const own = (name) => (validation.samples[name] ? validation.samples[name][position] : undefined);
    if (column === "overall" || column === "base_overall") {
      const before = column === "overall" ? "" : "base_";
      const [insertion, deletion] = [own(`${before}insertion_auc`), own(`${before}deletion_auc`)];
      return Number.isFinite(insertion) && Number.isFinite(deletion) ? insertion - deletion : undefined;
    }
    if (column === "correct") {
      const label = this.samples[sample].label;
      return label === null || label < 0 ? undefined : own("prediction") === label;
    }
    return own(column);
  }

  // Why a sample is shown: random, worst, new_error; one may be several. Without the column all are random.
  kinds(validation, sample) {
    return (this.value(validation, sample, "kind") || "random").split(" ");
  }

  // Whether numbers were measured on it: those chosen for being hard would make them worse than they are.
  isRandom(validation, sample) {
    return this.kinds(validation, sample).includes("random");
  }

  // Whether the base method was compared in a validation.
  hasBase(validation) {
    return !!validation.maps.base && validation.maps.base.some(Boolean);
  }

  has(column) {
    return this.validations.some((one) => one.samples.sample.some((sample) => {
      const value = this.value(one, sample, column);
      return value !== null && value !== undefined;
    }));
  }

  // The validation of another run that belongs beside this epoch and step: the last one that is no later.
  nearest(validation) {
    const earlier = this.shown.filter((one) => one.epoch <= validation.epoch);
    return earlier.length ? earlier[earlier.length - 1] : this.shown[0];
  }

  image(sample) {
    if (!this.images.has(sample)) {
      const made = this.store.image(this.name, sample).then((blob) => createImageBitmap(blob));
      made.then((bitmap) => this.bitmaps.set(sample, bitmap), () => {});
      made.catch(() => this.images.delete(sample));
      this.images.set(sample, made);
    }
    return this.images.get(sample);
  }

  // Of a validation: by position of the sample, the probability of the class in each window.
  scores(validation) {
    return this.store.scores(this.name, validation.number);
  }

  atlas(validation) {
    const { number } = validation;
    const known = this.atlases.get(number) || this.#decoded(validation);
    this.atlases.delete(number);
    this.atlases.set(number, known);
    for (const old of this.atlases.keys()) {
      if (this.atlases.size <= MOST_ATLASES) break;
      this.atlases.delete(old);
      this.ready.delete(old);
    }
    return known;
  }

  async #decoded(validation) {
    try {
      const blob = await this.files.of(validation.number);
      const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
      // A pixel as one number ends in its red, which is as good as its green: a fourth of the reads.
      const bytes = new Uint8Array(new Uint32Array(data.buffer));
      const atlas = { width: bitmap.width, height: bitmap.height, bytes };
      bitmap.close();
      if (this.atlases.has(validation.number)) this.ready.set(validation.number, atlas);
      return atlas;
    } catch (error) {
      this.atlases.delete(validation.number);
      throw error;
    }
  }

  // Where a sample's map lies in its atlas: [x, y, width, height], or null. Kinds: sess, base, second.
  box(validation, sample, kind) {
    const position = validation.position.get(sample);
    const boxes = validation.maps[kind];
    return (position !== undefined && boxes && boxes[position]) || null;
  }

  // A sample's map out of a decoded atlas: {width, height, bytes}, or null.
  tile(atlas, validation, sample, kind) {
    const box = this.box(validation, sample, kind);
    if (!box || !atlas) return null;
    const [left, top, width, height] = box;
    const bytes = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = (top + row) * atlas.width + left;
      bytes.set(atlas.bytes.subarray(start, start + width), row * width);
    }
    return { width, height, bytes };
  }
}
