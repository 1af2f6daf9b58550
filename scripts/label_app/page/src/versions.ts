/** Versions of the model: a slider shows the outlines of an earlier one on the open image. */

import { attempt, busy, element } from "./dom";
import type { Editor } from "./editor";
import type { Server } from "./server";
import { fromCollection, type Shape } from "./shapes";
import type { Viewer } from "./viewer";

const WAIT = 300;
/** Name of the model that came with the bundle, once another one is in use. */
const SHIPPED = "shipped.pt";

export class VersionPanel {
  private readonly slider = element<HTMLInputElement>("version");
  private readonly box = element<HTMLInputElement>("compare");
  /** From old to new. */
  private names: string[] = [];
  private found = new Map<string, Shape[]>();
  private timer = 0;

  constructor(
    private readonly server: Server,
    private readonly viewer: Viewer,
    private readonly editor: Editor,
  ) {
    this.slider.addEventListener("input", () => {
      this.box.checked = true;
      this.describe();
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => void attempt(() => this.compare()), WAIT);
    });
    this.box.addEventListener("change", () => void attempt(() => this.compare()));
  }

  /** Show the versions that the server keeps, newest first in the list. */
  show(names: string[]): void {
    const ordered = [...names].reverse();
    if (ordered.join() === this.names.join()) return;
    this.found.clear();
    this.names = ordered;
    this.slider.max = String(Math.max(ordered.length - 1, 0));
    this.slider.value = this.slider.max;
    this.slider.disabled = ordered.length < 2;
    this.describe();
    if (this.box.checked) void attempt(() => this.compare());
  }

  /** Forget the outlines of the image before. */
  clear(): void {
    this.found.clear();
    this.box.checked = false;
    this.viewer.compared = [];
    this.describe();
  }

  private describe(): void {
    const at = this.slider.valueAsNumber;
    const name = this.names[at] ?? "";
    const [, day, time] = /_(\d{8})-(\d{6})/.exec(name) ?? [];
    const when = day && time ? `replaced ${day.replace(/(....)(..)(..)/, "$1-$2-$3")} ${time.replace(/(..)(..)(..)/, "$1:$2")}` : "";
    const current = this.names.length > 1 ? "the model in use" : "the model in use; there is no other yet";
    const text = name === SHIPPED ? "the shipped model, before all trainings" : when || current;
    element("versionname").textContent = `${at + 1} of ${Math.max(this.names.length, 1)}: ${text}`;
  }

  /** Draw the outlines of the chosen version on the open image. */
  private async compare(): Promise<void> {
    const { editor, viewer } = this;
    const { name } = editor;
    const version = this.names[this.slider.valueAsNumber];
    if (!this.box.checked || version === undefined || !name) {
      viewer.compared = [];
      viewer.draw();
      return;
    }
    const box = viewer.facts?.slide ? viewer.view : undefined;
    const key = JSON.stringify([version, box]);
    if (!this.found.has(key)) {
      const answer = await busy("Predicting", ["predicthere", "predictall"], () => this.server.predict(name, box, version));
      if (editor.name === name) this.found.set(key, fromCollection(answer, true, editor.className));
    }
    if (editor.name !== name || this.names[this.slider.valueAsNumber] !== version || !this.box.checked) return;
    viewer.compared = this.found.get(key) ?? [];
    viewer.draw();
  }
}
