/** The list of images with their state and score. */

import { drafts } from "./drafts";
import { element } from "./dom";
import type { Images } from "./server";

type State = "draft" | "labeled" | "predicted" | "unlabeled";

export class ImageList {
  images: Images = {};
  scores: Record<string, number> = {};
  current = "";
  onOpen: (name: string) => void = () => {};

  private readonly list = element("images");
  private readonly filter = element<HTMLSelectElement>("filter");
  private readonly order = element<HTMLSelectElement>("order");
  private shown = "";

  constructor() {
    this.filter.addEventListener("change", () => this.draw());
    this.order.addEventListener("change", () => this.draw());
  }

  state(name: string, withDraft: Set<string>): State {
    if (withDraft.has(name)) return "draft";
    const labels = this.images[name]?.labels ?? {};
    if ("final" in labels) return "labeled";
    return "original" in labels ? "predicted" : "unlabeled";
  }

  /** Names in the order of the list, without those that the filter hides. */
  names(): string[] {
    const withDraft = drafts();
    const wanted = this.filter.value;
    const kept = Object.keys(this.images).filter((name) => {
      const state = this.state(name, withDraft);
      return wanted === "all" || state === wanted || (wanted === "unlabeled" && state === "predicted") || name === this.current;
    });
    const byName = kept.sort((one, other) => one.localeCompare(other, undefined, { numeric: true }));
    if (this.order.value === "name") return byName;
    return byName.sort((one, other) => (this.scores[other] ?? -1) - (this.scores[one] ?? -1));
  }

  /** The image before or after the current one. */
  neighbor(step: number): string | undefined {
    const names = this.names();
    return names[names.indexOf(this.current) + step];
  }

  draw(): void {
    const withDraft = drafts();
    const names = this.names();
    const rows = names.map((name) => [name, this.state(name, withDraft), this.scores[name]] as const);
    const key = JSON.stringify([rows, this.current]);
    if (key === this.shown) return;
    this.shown = key;
    this.list.replaceChildren(...rows.map(([name, state, score]) => this.row(name, state, score)));
    this.list.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
    const all = Object.keys(this.images);
    const labeled = all.filter((name) => "final" in (this.images[name]?.labels ?? {})).length;
    element("counts").textContent = `${labeled} of ${all.length} images labeled`;
  }

  private row(name: string, state: State, score: number | undefined): HTMLElement {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset["state"] = state;
    button.dataset["image"] = name;
    button.setAttribute("aria-current", String(name === this.current));
    const text = state === "draft" ? "draft, not saved" : state;
    const parts: [string, string][] = [["name", name], ["state", text], ["score", score?.toFixed(3) ?? ""]];
    for (const [part, content] of parts) {
      const span = document.createElement("span");
      span.className = part;
      span.textContent = content;
      if (part === "score") span.title = "disagreement of the model: label images with high scores first";
      button.append(span);
    }
    button.addEventListener("click", () => this.onOpen(name));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }
}
