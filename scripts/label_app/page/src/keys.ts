/** Keys of the page. */

import { attempt, element } from "./dom";
import type { Page } from "./page";
import type { Tool } from "./viewer";

const TOOLS: Record<string, Tool> = { v: "move", o: "outline", b: "brush", e: "eraser", h: "hole" };
const WIDER = 1.25;
const SHOWN: [string, string][] = [
  ["V O B E H", "move, outline, brush, eraser, hole"],
  ["[ ]", "smaller, larger brush"],
  ["Space", "hold it to move the image with any tool"],
  ["Enter", "close the outline; accept the selected prediction"],
  ["Escape", "leave the outline; select nothing"],
  ["Z, Shift+Z", "undo, redo"],
  ["Delete", "delete the selected outline"],
  ["X", "hide or show outlines"],
  ["P, Shift+P", "predict here, whole image"],
  ["A, R", "accept, remove predictions"],
  ["S, N, T", "save, next, train"],
  ["J, K", "image after, before"],
  ["+ - 0", "zoom in, zoom out, fit"],
];

export function listenToKeys(page: Page): void {
  const { editor, viewer } = page;
  element("keys").querySelector("tbody")!.append(
    ...SHOWN.map(([keys, text]) => {
      const row = document.createElement("tr");
      const key = document.createElement("kbd");
      key.textContent = keys;
      row.append(document.createElement("td"), document.createElement("td"));
      row.cells[0]!.append(key);
      row.cells[1]!.textContent = text;
      return row;
    }),
  );
  const escape = (): void => {
    viewer.cancelStroke();
    editor.dropCorners();
    editor.select(null);
  };
  const actions: Record<string, () => unknown> = {
    "[": () => page.setRadius(viewer.radius / WIDER),
    "]": () => page.setRadius(viewer.radius * WIDER),
    Enter: () => (editor.corners.length ? viewer.finishOutline() : editor.selected && page.accept()),
    Escape: escape,
    z: () => editor.undo(),
    "shift+z": () => editor.redo(),
    y: () => editor.redo(),
    Delete: () => page.deleteSelected(),
    Backspace: () => page.deleteSelected(),
    x: () => page.toggleOutlines(),
    p: () => page.predict(true),
    "shift+p": () => page.predict(false),
    a: () => page.accept(),
    r: () => editor.remove(editor.predicted),
    s: () => page.save(),
    n: () => page.next(),
    t: () => page.training.train(),
    j: () => page.step(1),
    k: () => page.step(-1),
    "+": () => viewer.zoom(1.5),
    "-": () => viewer.zoom(1 / 1.5),
    "0": () => viewer.fit(),
    "?": () => element<HTMLDialogElement>("keys").showModal(),
    " ": () => (viewer.moving = true),
  };
  for (const [key, tool] of Object.entries(TOOLS)) actions[key] = () => page.setTool(tool);
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || document.querySelector("dialog[open]") || event.altKey) return;
    const isControl = event.ctrlKey || event.metaKey;
    if (isControl && !["z", "y", "s"].includes(event.key.toLowerCase())) return; // keys of the browser
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = actions[event.shiftKey && /^[a-z]$/.test(key) ? `shift+${key}` : key];
    const onButton = event.target instanceof HTMLButtonElement && (key === "Enter" || key === " ");
    if (!action || onButton) return;
    event.preventDefault();
    if (!event.repeat || key === "[" || key === "]") void attempt(action);
  });
  addEventListener("keyup", (event) => {
    if (event.key === " ") viewer.moving = false;
  });
}

function isTyping(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) return target.type !== "range" && target.type !== "checkbox";
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}
