/** Requests to the label server. */

export type Point = [number, number];
export type Color = [number, number, number];

/**
 * What `/view/image` says of an image; `first` and `deepest` are its zoom levels, `side` that of a tile in px, `stamp`
 * changes with the file, and `bytes`, its size, tells images of the same name apart.
 */
export interface ImageFacts {
  width: number;
  height: number;
  side: number;
  first: number;
  deepest: number;
  slide: boolean;
  mpp: number | null;
  stamp: string;
  bytes: number;
  classes: Record<string, Color>;
}

/** State of the running or last training of a model. */
export interface Training {
  state?: "starting" | "running" | "done" | "failed" | "stopped";
  reason?: string;
  taken?: boolean;
  before?: number | null;
  after?: number | null;
  labeled?: number;
  validation?: number;
  unlabeled?: number;
  started?: number;
  seconds?: number;
  /** Null: not known yet. Without steps: the training has not started yet. */
  progress?: {
    epoch?: number;
    epochs?: number;
    step?: number;
    steps?: number;
    loss?: number | null;
    seconds_left?: number | null;
    share?: number;
  };
}

export interface Info {
  name: string;
  labels: string[] | Record<string, number>;
  models: Record<string, { config: { model_filename?: string[] } }>;
  trainers: Record<string, unknown>;
  strategies: Record<string, { description: string }>;
  scoring: Record<string, { scores?: Record<string, number> }>;
  train_stats: Record<string, Training>;
}

export interface Feature {
  type: "Feature";
  geometry: { type: "Polygon"; coordinates: Point[][] } | { type: "MultiPolygon"; coordinates: Point[][][] };
  properties: { classification?: { name?: string }; objectType?: string };
}

export interface Collection {
  type: "FeatureCollection";
  features: Feature[];
  version?: string;
}

/** Images of the folder, by name, with the tags of their labels. */
export type Images = Record<string, { labels?: Record<string, unknown> }>;

export interface Suggestion {
  id?: string;
  bbox?: [number, number, number, number];
  disagreement?: number | null;
  /** What the strategy does not know yet. */
  note?: string;
}

/** The server refused a request; `message` is its sentence. */
export class RefusedError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** No answer: the server has stopped, or the network has failed. */
export class GoneError extends Error {}

const TOKEN = "semi_moe:token";

export class Server {
  /** Called with false when the server does not answer, with true when it answers again. */
  onReachable: (reachable: boolean) => void = () => {};
  /** Called when the server wants a token. */
  onLogin: () => void = () => {};
  model = "";

  /** Headers of every request; the token of a login is kept until the tab is closed. */
  get headers(): Record<string, string> {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  async send(method: string, path: string, body?: BodyInit, type?: string): Promise<Response> {
    let response: Response;
    try {
      const headers = { ...this.headers, ...(type ? { "Content-Type": type } : {}) };
      response = await fetch(path, { method, headers, cache: "no-store", ...(body === undefined ? {} : { body }) });
    } catch (error) {
      this.onReachable(false);
      throw new GoneError(String(error));
    }
    this.onReachable(true);
    if (response.status === 401) this.onLogin();
    if (!response.ok) throw new RefusedError(response.status, await reason(response));
    return response;
  }

  private async json<Answer>(method: string, path: string, content?: unknown): Promise<Answer> {
    const type = content === undefined ? undefined : "application/json";
    const response = await this.send(method, path, content === undefined ? undefined : JSON.stringify(content), type);
    return (await response.json()) as Answer;
  }

  async login(user: string, password: string): Promise<void> {
    const form = new URLSearchParams({ username: user, password });
    const response = await this.send("POST", "auth/token", form);
    sessionStorage.setItem(TOKEN, ((await response.json()) as { access_token: string }).access_token);
  }

  async info(): Promise<Info> {
    const info = await this.json<Info>("GET", "info/");
    this.model = Object.keys(info.models)[0] ?? "";
    return info;
  }

  async images(): Promise<Images> {
    return (await this.json<{ objects: Images }>("GET", "datastore/?output=all")).objects;
  }

  image(name: string): Promise<ImageFacts> {
    return this.json("GET", `view/image?image=${encodeURIComponent(name)}`);
  }

  tile(name: string, stamp: string, level: number, x: number, y: number): string {
    const image = encodeURIComponent(name);
    return `view/tile?image=${image}&level=${level}&x=${x}&y=${y}&stamp=${stamp}`;
  }

  label(name: string, tag = "final"): Promise<Collection> {
    return this.json("GET", `view/label?image=${encodeURIComponent(name)}&tag=${tag}`);
  }

  /** Save a final label; `replaces` is the version that it may replace, undefined any. Returns its version. */
  async save(name: string, label: Collection, replaces: string | undefined): Promise<string> {
    const form = new FormData();
    form.append("label", new Blob([JSON.stringify(label)], { type: "application/geo+json" }), "label.geojson");
    form.append("params", JSON.stringify(replaces === undefined ? {} : { replaces }));
    const response = await this.send("PUT", `datastore/label?image=${encodeURIComponent(name)}&tag=final`, form);
    return ((await response.json()) as { version: string }).version;
  }

  /** Predict outlines of an image, or of a rectangle (x, y, width, height) of a slide. */
  async predict(name: string, box?: number[], version?: string): Promise<Collection> {
    const region = box ? { location: box.slice(0, 2), size: box.slice(2) } : {};
    const form = new FormData();
    form.append("params", JSON.stringify({ output: "geojson", ...region, ...(version ? { model_filename: version } : {}) }));
    const path = `infer/${this.model}?image=${encodeURIComponent(name)}&output=image`;
    return (await (await this.send("POST", path, form)).json()) as Collection;
  }

  train(settings: Record<string, unknown>): Promise<unknown> {
    return this.json("POST", `train/${this.model}`, settings);
  }

  stop(): Promise<unknown> {
    return this.json("DELETE", "train/");
  }

  next(strategy: string, region?: { image: string; patch_size: number[] }): Promise<Suggestion> {
    return this.json("POST", `activelearning/${strategy}`, region ?? {});
  }
}

/** The sentence of a refusal. */
async function reason(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    if (typeof detail === "string") return detail;
  } catch {
    // not JSON: the text itself is shown
  }
  return text.slice(0, 300) || `the server answered ${response.status}`;
}
