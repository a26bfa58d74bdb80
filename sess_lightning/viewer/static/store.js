// Where the data comes from: the page itself (report) or TensorBoard's plugin. Both give the same four things:
// runs(), record(run), image(run, sample), maps(run, number), scores(run, number).

// Bytes of base64 text.
function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// The report: numbers in one element, each picture in an element of its own, read when it is needed.
export class InlineStore {
  constructor() {
    this.data = JSON.parse(document.getElementById("sess-data").textContent);
    this.live = false;
  }

  #bytes(kind, run, number) {
    const at = this.data.runs.findIndex((one) => one.name === run);
    const node = document.getElementById(`sess-${kind}-${at}-${number}`);
    return node && bytesOf(node.textContent.trim());
  }

  async runs() {
    return this.data.runs.map(({ name, error }) => ({ name, error, stamp: "" }));
  }

  async record(run) {
    return this.data.runs.find((one) => one.name === run);
  }

  async image(run, sample) {
    return new Blob([this.#bytes("image", run, sample)]);
  }

  async maps(run, number) {
    const { missing } = this.data.runs.find((one) => one.name === run);
    if (missing && missing[number]) throw new Error(missing[number]);
    const bytes = this.#bytes("maps", run, number);
    return bytes && new Blob([bytes], { type: "image/png" });
  }

  async scores(run, number) {
    const node = document.getElementById(`sess-scores-${this.data.runs.findIndex((one) => one.name === run)}-${number}`);
    return node && JSON.parse(node.textContent).scores;
  }
}

// TensorBoard's tab: the plugin's routes.
export class HttpStore {
  constructor(base = "./") {
    this.base = base;
    this.live = true;
  }

  async #get(route, query = {}) {
    const answer = await fetch(`${this.base}${route}?${new URLSearchParams(query)}`);
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error || `${route}: ${answer.status} ${answer.statusText}`);
  }

  async runs() {
    return (await (await this.#get("runs")).json()).runs;
  }

  async record(run) {
    return (await this.#get("record", { run })).json();
  }

  async image(run, sample) {
    return (await this.#get("image", { run, sample })).blob();
  }

  async maps(run, number) {
    return (await this.#get("maps", { run, number })).blob();
  }

  async scores(run, number) {
    return (await (await this.#get("scores", { run, number })).json()).scores;
  }
}
