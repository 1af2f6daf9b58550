/** The labeling page: connects the server, the list of images, the viewer, the editor and the training. */

import { askConflict, askLogin } from "./dialogs";
import { attempt, busy, element, fill, onClick, say } from "./dom";
import { onOtherTab } from "./drafts";
import { Editor } from "./editor";
import { ImageList } from "./image_list";
import { listenToKeys } from "./keys";
import { RefusedError, Server } from "./server";
import { fromCollection, REGION, type Shape, toCollection } from "./shapes";
import { TrainingPanel } from "./training";
import { VersionPanel } from "./versions";
import { type Tool, Viewer } from "./viewer";

const FAST = 1000;
const SLOW = 4000;
/** Side of the field of a slide that the server suggests, px. */
const FIELD = 1024;
const HINTS: Record<Tool, string> = {
  move: "Drag to move, wheel or pinch to zoom, click to select; double-click accepts a prediction.",
  outline: "Drag around a gland, or click its corners; a double-click, Enter or the first corner closes it.",
  brush: "Paint a gland; start inside of an outline to enlarge it.",
  eraser: "Erase; inside of a gland this makes a hole.",
  hole: "Drag around a hole, or click its corners; a double-click, Enter or the first corner closes it.",
};
const PREDICT = ["predicthere", "predictall"];

class Page {
  readonly server = new Server();
  readonly editor = new Editor();
  readonly viewer = new Viewer(element("viewer"), this.editor);
  readonly list = new ImageList();
  readonly training = new TrainingPanel(this.server);
  readonly versions = new VersionPanel(this.server, this.viewer, this.editor);
  private opening = 0;
  private reachable = true;
  private ticks = 0;

  async start(): Promise<void> {
    this.connect();
    listenToKeys(this);
    this.setTool("move");
    this.showOutlines();
    await this.poll();
  }

  private connect(): void {
    const { editor, list, server, training } = this;
    server.onReachable = (reachable) => this.setReachable(reachable);
    server.onLogin = () => askLogin(server, () => void attempt(() => this.refresh()));
    editor.onChange = () => this.showOutlines();
    editor.onFull = () => say("The storage of this browser is full: save now, or the outlines may be lost.", "error");
    list.onOpen = (name) => void attempt(() => this.open(name));
    training.onEnd = () => this.refresh();
    onOtherTab((name) => {
      if (name === editor.name) say(`${name} is being changed in another tab; use one of them.`, "error");
      list.draw();
    });
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-tool]")) {
      button.addEventListener("click", () => this.setTool(button.dataset["tool"] as Tool));
    }
    element("radius").addEventListener("input", () => this.setRadius(element<HTMLInputElement>("radius").valueAsNumber));
    element("class").addEventListener("change", () => this.setClass(element<HTMLSelectElement>("class").value));
    const actions: Record<string, () => unknown> = {
      undo: () => editor.undo(),
      redo: () => editor.redo(),
      delete: () => this.deleteSelected(),
      zoomin: () => this.viewer.zoom(1.5),
      zoomout: () => this.viewer.zoom(1 / 1.5),
      fit: () => this.viewer.fit(),
      show: () => this.toggleOutlines(),
      region: () => editor.addRegion(...this.viewer.view),
      save: () => this.save(),
      next: () => this.next(),
      field: () => this.nextField(),
      predicthere: () => this.predict(true),
      predictall: () => this.predict(false),
      accept: () => this.accept(),
      reject: () => editor.remove(editor.predicted),
      help: () => element<HTMLDialogElement>("keys").showModal(),
    };
    for (const [id, action] of Object.entries(actions)) onClick(id, action);
    addEventListener("click", (event) => {
      // Else the space bar would press the button again.
      if (event.detail && event.target instanceof HTMLButtonElement) event.target.blur();
    });
  }

  /** Ask the server for its state again and again: often during a training, so that the progress moves. */
  private async poll(): Promise<void> {
    await attempt(() => this.refresh(this.ticks++ % 5 === 0));
    setTimeout(() => void this.poll(), this.training.running || !this.reachable ? FAST : SLOW);
  }

  /** Fetch scores, training and versions, and the list of images. */
  async refresh(withImages = true): Promise<void> {
    const info = await this.server.info();
    const { list, server } = this;
    list.scores = Object.assign({}, ...Object.values(info.scoring).map((method) => method.scores ?? {}));
    const strategies = Object.entries(info.strategies);
    fill(element<HTMLSelectElement>("strategy"), Object.fromEntries(strategies.map(([name]) => [name, name])));
    element("strategy").title = strategies.map(([name, { description }]) => `${name}: ${description}`).join("\n");
    this.versions.show(info.models[server.model]?.config.model_filename ?? []);
    this.training.show(info.train_stats[server.model] ?? {});
    if (withImages) list.images = await server.images();
    list.draw();
    if (!this.editor.name && !this.opening) {
      const first = location.hash.length > 1 ? decodeURIComponent(location.hash.slice(1)) : list.names()[0];
      if (first !== undefined && first in list.images) await this.open(first);
    }
  }

  /** Open an image with its label, or with its draft. */
  async open(name: string): Promise<void> {
    const turn = ++this.opening;
    const { editor, list, server, viewer } = this;
    try {
      const [facts, label] = await Promise.all([server.image(name), server.label(name)]);
      if (turn !== this.opening) return; // another image was opened meanwhile
      const classes = [...Object.keys(facts.classes), ...(facts.slide ? [REGION] : [])];
      fill(element<HTMLSelectElement>("class"), Object.fromEntries(classes.map((one) => [one, one])));
      editor.select(null);
      if (!classes.includes(editor.className)) this.setClass(classes[0] ?? "");
      list.current = name;
      history.replaceState(null, "", `#${encodeURIComponent(name)}`);
      viewer.open(facts, (level, x, y) => server.tile(name, facts.stamp, level, x, y), server.headers);
      this.versions.clear();
      const shapes = fromCollection(label, false, editor.className);
      const draft = editor.open(name, facts.bytes, shapes, label.version ?? "");
      if (editor.corners.length) this.setTool("outline");
      if (draft) {
        const other = draft.base === label.version ? "" : " Somebody has saved another label meanwhile.";
        say(`The draft of ${name} is open; it is not saved yet.${other}`);
      } else if ("original" in (list.images[name]?.labels ?? {}) && !label.version) {
        editor.propose(fromCollection(await server.label(name, "original"), true, editor.className));
      }
      this.showFacts();
      list.draw();
    } finally {
      if (turn === this.opening) this.opening = 0;
    }
  }

  private showFacts(): void {
    const { facts } = this.viewer;
    element("name").textContent = this.editor.name || "No image";
    const mpp = facts?.mpp ? `, ${Number(facts.mpp.toPrecision(3))} um/px` : "";
    element("facts").textContent = facts ? `${facts.slide ? "Slide" : "Image"}, ${facts.width} x ${facts.height} px${mpp}` : "";
    element("region").hidden = element("field").hidden = !facts?.slide;
    element("predictall").textContent = facts?.slide ? "Whole slide" : "Whole image";
  }

  /** Show what can be done with the outlines of the open image. */
  private showOutlines(): void {
    const { editor } = this;
    const enable = (id: string, can: boolean): void => void (element<HTMLButtonElement>(id).disabled = !can);
    const regions = editor.accepted.filter((shape) => shape.name === REGION).length;
    const [accepted, predicted] = [editor.accepted.length - regions, editor.predicted.length];
    const complete = regions ? `, ${regions} complete ${regions > 1 ? "views" : "view"}` : "";
    const proposed = predicted ? `, ${predicted} predicted and not accepted` : "";
    const state = editor.dirty ? "not saved" : editor.base ? "saved" : "no label yet";
    element("outlines").textContent = editor.name ? `${accepted} ${accepted === 1 ? "outline" : "outlines"}${complete} (${state})${proposed}` : "";
    enable("undo", editor.canUndo);
    enable("redo", editor.canRedo);
    enable("delete", editor.selected !== null);
    enable("save", editor.name !== "");
    enable("accept", predicted > 0);
    enable("reject", predicted > 0);
    element("accept").textContent = editor.selected?.predicted ? "Accept this" : "Accept all";
    if (editor.selected) element<HTMLSelectElement>("class").value = editor.selected.name;
    else if (editor.className) element<HTMLSelectElement>("class").value = editor.className;
    this.viewer.draw();
    this.list.draw();
  }

  setTool(tool: Tool): void {
    this.viewer.tool = tool;
    element("viewer").dataset["tool"] = tool;
    element("hint").textContent = HINTS[tool];
    for (const button of document.querySelectorAll<HTMLElement>("[data-tool]:is(button)")) {
      button.setAttribute("aria-pressed", String(button.dataset["tool"] === tool));
    }
    if (tool !== "move") this.editor.select(null);
    this.viewer.draw();
  }

  setRadius(radius: number): void {
    const slider = element<HTMLInputElement>("radius");
    slider.valueAsNumber = radius;
    this.viewer.radius = slider.valueAsNumber;
    this.viewer.draw();
  }

  /** Choose the class of new outlines, or change that of the selected one. */
  private setClass(name: string): void {
    if (this.editor.selected) this.editor.rename(this.editor.selected, name);
    else this.editor.className = name;
  }

  toggleOutlines(): void {
    this.viewer.shown = !this.viewer.shown;
    element("show").setAttribute("aria-pressed", String(this.viewer.shown));
    this.viewer.draw();
  }

  deleteSelected(): void {
    if (this.editor.selected) this.editor.remove([this.editor.selected]);
  }

  accept(): void {
    this.editor.accept(this.editor.selected?.predicted ? [this.editor.selected] : undefined);
  }

  /** Predict the visible part, or the whole image. */
  async predict(here: boolean): Promise<void> {
    const { editor, server, viewer } = this;
    const { name } = editor;
    if (!name || !viewer.facts) return;
    const [x, y, width, height] = viewer.view;
    const box = here && viewer.facts.slide ? [x, y, width, height] : undefined;
    const found = await busy("Predicting", PREDICT, () => server.predict(name, box));
    if (editor.name !== name) return;
    const within: Shape["rings"] = [[[x, y], [x + width, y], [x + width, y + height], [x, y + height]]];
    const count = editor.propose(fromCollection(found, true, editor.className), here ? within : undefined);
    say(count ? `${count} new outlines: accept or correct them (yellow), then save.` : "The model proposes no new outlines here.");
  }

  /** Save the accepted outlines as the label of the image. */
  async save(anyway = false): Promise<void> {
    const { editor, server } = this;
    const { name, accepted } = editor;
    if (!name) return;
    if (editor.corners.length) {
      say("Close the outline first (Enter), or cancel it (Escape).", "error");
      return;
    }
    try {
      const version = await server.save(name, toCollection(accepted), anyway ? undefined : editor.base);
      if (editor.name === name) editor.markSaved(accepted, version);
      const rest = editor.predicted.length ? ` ${editor.predicted.length} predicted outlines were not accepted and are not saved.` : "";
      say(`Saved ${accepted.length} outlines of ${name}.${rest}`);
      await this.refresh();
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 409) throw error;
      await this.settle(error.message);
    }
  }

  /** Ask what to do if somebody else has saved a label of this image meanwhile. */
  private async settle(reason: string): Promise<void> {
    const { name } = this.editor;
    const choice = await askConflict(reason);
    if (this.editor.name !== name) return;
    if (choice === "mine") await this.save(true);
    if (choice !== "theirs") return;
    const label = await this.server.label(name);
    this.editor.takeLabel(fromCollection(label, false, this.editor.className), label.version ?? "");
    say("This is their label; undo brings back yours.");
  }

  /** Open the image that a strategy selects. */
  async next(): Promise<void> {
    const { id, note } = await this.server.next(element<HTMLSelectElement>("strategy").value);
    if (id === undefined) return say("All images are labeled.");
    await this.open(id);
    if (note) say(`Next: ${id}. ${note}.`);
  }

  /** Show the field of the open slide that a strategy selects. */
  private async nextField(): Promise<void> {
    const { editor, server } = this;
    const region = { image: editor.name, patch_size: [FIELD, FIELD] };
    const strategy = element<HTMLSelectElement>("strategy").value;
    const { bbox } = await busy("Searching", ["field"], () => server.next(strategy, region));
    if (bbox) this.viewer.fit(bbox);
  }

  /** Open the image before or after this one. */
  step(by: number): void {
    const name = this.list.neighbor(by);
    if (name !== undefined) void attempt(() => this.open(name));
  }

  private setReachable(reachable: boolean): void {
    if (reachable === this.reachable) return;
    this.reachable = reachable;
    element("gone").hidden = reachable;
    if (reachable) say(this.editor.dirty ? "The server is back. Your outlines are not saved yet." : "The server is back.");
  }
}

export type { Page };

void new Page().start();
