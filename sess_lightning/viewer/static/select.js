// Which samples are shown, and in which order.

const GAIN = 0.02; // of insertion minus deletion: less is no difference

// Whether SESS is better (1), worse (-1) or as good (0) for a sample: by hits where they tell, else by overall.
export function against(run, validation, sample) {
  const [hit, base] = [run.value(validation, sample, "hit"), run.value(validation, sample, "base_hit")];
  if (typeof hit === "boolean" && typeof base === "boolean") return Number(hit) - Number(base);
  const gain = run.value(validation, sample, "overall") - run.value(validation, sample, "base_overall");
  return Number.isFinite(gain) && Math.abs(gain) > GAIN ? Math.sign(gain) : 0;
}

export const FILTERS = [
  ["all", "all", () => true],
  ["misses", "misses", (run, v, i) => run.value(v, i, "hit") === false],
  ["wrong", "misclassified", (run, v, i) => run.value(v, i, "correct") === false],
  ["better", "SESS better", (run, v, i) => against(run, v, i) > 0],
  ["worse", "base better", (run, v, i) => against(run, v, i) < 0],
  ["invalid", "no valid map", (run, v, i) => run.value(v, i, "valid") === false],
  ["random", "random", (run, v, i) => !!v.samples.kind && run.isRandom(v, i)],
  ["highest", "worst", (run, v, i) => run.kinds(v, i).includes("worst")],
  ["new", "new errors", (run, v, i) => run.kinds(v, i).includes("new_error")],
];

const gain = (run, v, i) => run.value(v, i, "overall") - run.value(v, i, "base_overall");

// Value, text, key: lowest keys come first.
export const SORTS = [
  ["order", "as recorded", (run, v, i) => i],
  ["score", "lowest score", (run, v, i) => run.value(v, i, "score")],
  ["last", "most changed since the last", (run, v, i) => -run.value(v, i, "drift")],
  ["first", "most changed since the first", (run, v, i, changes) => -changes.get(i)],
  ["overall", "lowest insertion − deletion", (run, v, i) => run.value(v, i, "overall")],
  ["gain", "SESS most above base", (run, v, i) => -gain(run, v, i)],
  ["loss", "SESS most below base", gain],
  ["class", "class", (run, v, i) => run.samples[i].label],
];

// Counts by filter, among the samples of the chosen class.
export function counts(run, validation, cls) {
  const samples = ofClass(run, validation, cls);
  return new Map(FILTERS.map(([name, , test]) => [name, samples.filter((i) => test(run, validation, i)).length]));
}

// Class of a sample: its label, else what is explained.
export function classOf(run, validation, sample) {
  const { label } = run.samples[sample];
  return label === null || label < 0 ? run.value(validation, sample, "target") : label;
}

function ofClass(run, validation, cls) {
  const { sample } = validation.samples;
  return cls === "" ? sample : sample.filter((i) => String(classOf(run, validation, i)) === cls);
}

// Numbers of the samples to show, in order. `changes`: by sample, the change since the first validation.
export function chosen(run, validation, { cls, only, sort }, changes) {
  const [, , test] = FILTERS.find(([name]) => name === only) || FILTERS[0];
  const [, , key] = SORTS.find(([name]) => name === sort) || SORTS[0];
  const keyed = ofClass(run, validation, cls)
    .filter((i) => test(run, validation, i))
    .map((i) => [i, key(run, validation, i, changes)]);
  const last = (value) => (Number.isFinite(value) ? value : Infinity); // what has no value comes behind
  return keyed.sort(([i, one], [j, other]) => last(one) - last(other) || i - j).map(([i]) => i);
}

// Measures of the table of classes: name, text, value of a sample as a number, whether high is good.
export const MEASURES = [
  ["hit", "pointing accuracy", (value) => (typeof value === "boolean" ? Number(value) : NaN)],
  ["correct", "accuracy", (value) => (typeof value === "boolean" ? Number(value) : NaN)],
  ["score", "probability", Number],
  ["overall", "insertion − deletion", Number],
  ["object_reliance", "lost without the object", Number],
  ["background_reliance", "lost without the background", Number],
];

// By class: its mean of a measure over the random samples in each validation shown, NaN where it has none.
export function byClass(run, measure) {
  const [, , number] = MEASURES.find(([name]) => name === measure);
  const rows = new Map();
  run.shown.forEach((validation, at) => {
    for (const sample of validation.samples.sample) {
      if (!run.isRandom(validation, sample)) continue;
      const value = number(run.value(validation, sample, measure) ?? NaN);
      if (!Number.isFinite(value)) continue;
      const cls = classOf(run, validation, sample);
      if (!rows.has(cls)) rows.set(cls, run.shown.map(() => ({ sum: 0, count: 0 })));
      const cell = rows.get(cls)[at];
      cell.sum += value;
      cell.count += 1;
    }
  });
  return new Map([...rows].sort(([a], [b]) => a - b).map(([cls, cells]) =>
    [cls, cells.map(({ sum, count }) => ({ value: count ? sum / count : NaN, count }))]));
}
