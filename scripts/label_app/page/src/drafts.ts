/** Drafts: outlines that are not saved yet, kept in the browser, so that nothing drawn is lost. */

import type { Point } from "./server";
import type { Shape } from "./shapes";

export interface Draft {
  /** Version of the label on which the draft is based; empty for an image without a label. */
  base: string;
  shapes: Shape[];
  /** Corners of an outline that is not closed yet. */
  corners: Point[];
}

const PREFIX = "semi_moe:draft:";

/** Key of an image; its size in bytes tells images of the same name in other folders apart. */
function key(name: string, bytes: number): string {
  return `${PREFIX}${bytes}:${name}`;
}

export function readDraft(name: string, bytes: number): Draft | null {
  const text = localStorage.getItem(key(name, bytes));
  return text === null ? null : (JSON.parse(text) as Draft);
}

/** Keep a draft; returns false if the browser has no room for it. */
export function writeDraft(name: string, bytes: number, draft: Draft): boolean {
  try {
    localStorage.setItem(key(name, bytes), JSON.stringify(draft));
    return true;
  } catch (error) {
    if (error instanceof DOMException) return false;
    throw error;
  }
}

export function removeDraft(name: string, bytes: number): void {
  localStorage.removeItem(key(name, bytes));
}

/** Names of all images with a draft. */
export function drafts(): Set<string> {
  const keys = Array.from({ length: localStorage.length }, (_, index) => localStorage.key(index) ?? "");
  const names = keys.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
  return new Set(names.map((name) => name.slice(name.indexOf(":") + 1)));
}

/** Call back when another tab of this browser changes the draft of an image. */
export function onOtherTab(changed: (name: string) => void): void {
  addEventListener("storage", (event) => {
    if (event.key?.startsWith(PREFIX)) changed(event.key.slice(event.key.indexOf(":", PREFIX.length) + 1));
  });
}
