// The files of a run's maps, packed as they came: to get one from a server takes as long as to decode and draw it.

const MOST_BYTES = 48e6; // of a run; decoded they would be five times as many
const SLOW = 250; // milliseconds: where a file takes longer, nothing is fetched that nobody asked for

// Numbers of validations, first a few that lie far apart, then those between them.
export function spread(numbers) {
  const order = new Set();
  let step = 1;
  while (step < numbers.length) step *= 2;
  for (; step >= 1; step /= 2) {
    for (let at = 0; at < numbers.length; at += step) order.add(numbers[at]);
  }
  return [...order];
}

export class Files {
  // get: by number, a promise of a Blob; kept: whether to keep them, which the report's own page does already.
  constructor(get, kept) {
    this.get = get;
    this.most = kept ? MOST_BYTES : 0;
    this.known = new Map(); // by number, least recently used first: {promise, size}
    this.bytes = 0;
    this.slow = false;
  }

  of(number) {
    if (!this.most) return this.get(number);
    const file = this.known.get(number) || { promise: this.#fetched(number), size: 0 };
    this.known.delete(number);
    this.known.set(number, file);
    return file.promise;
  }

  async #fetched(number) {
    const start = performance.now();
    try {
      const blob = await this.get(number);
      this.slow = performance.now() - start > SLOW;
      this.#keep(number, blob.size);
      return blob;
    } catch (error) {
      this.known.delete(number);
      throw error;
    }
  }

  #keep(number, size) {
    const file = this.known.get(number);
    if (!file) return; // forgotten meanwhile
    file.size = size;
    this.bytes += size;
    for (const [old, { size: freed }] of this.known) {
      if (this.bytes <= this.most) break;
      if (!freed) continue; // still on its way
      this.known.delete(old);
      this.bytes -= freed;
    }
  }

  forget() {
    this.known.clear();
    this.bytes = 0;
  }

  // Fetches what is not there, one at a time, while `wanted()` and as long as there is room and the server is quick.
  async ahead(numbers, wanted) {
    for (const number of spread(numbers)) {
      if (this.slow || this.bytes > 0.9 * this.most || !wanted()) return;
      if (this.most && !this.known.has(number)) await this.of(number).catch(() => {});
    }
  }
}
