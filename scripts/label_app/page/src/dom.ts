/** Elements of the page, and messages. */

import { GoneError, RefusedError } from "./server";

/** Element of index.html by its id. */
export function element<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element ${id}`);
  return found as Kind;
}

export function onClick(id: string, action: () => unknown): void {
  element(id).addEventListener("click", () => void attempt(action));
}

let timer = 0;

/** Show a message for some seconds; an error until the next message. */
export function say(text: string, kind: "info" | "error" = "info"): void {
  const place = element("message");
  place.textContent = text;
  place.dataset["kind"] = kind;
  clearTimeout(timer);
  if (kind === "info") timer = window.setTimeout(() => (place.textContent = ""), 6000);
}

/** Run an action, and show why it failed. That the server is gone is shown elsewhere. */
export async function attempt(action: () => unknown): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof GoneError) return;
    const text = error instanceof Error ? error.message : String(error);
    if (!(error instanceof RefusedError)) console.error(error);
    if (!(error instanceof RefusedError && error.status === 401)) say(text, "error");
  }
}

/** Replace the options of a list; the chosen one stays. */
export function fill(select: HTMLSelectElement, options: Record<string, string>): void {
  const names = Object.keys(options);
  if (names.join() === [...select.options].map((option) => option.value).join()) return;
  const chosen = select.value;
  select.replaceChildren(...Object.entries(options).map(([value, text]) => new Option(text, value)));
  if (names.includes(chosen)) select.value = chosen;
}

/** Run an action with all buttons of a group disabled, and the seconds so far in a message. */
export async function busy<Result>(text: string, ids: string[], action: () => Promise<Result>): Promise<Result> {
  const buttons = ids.map((id) => element<HTMLButtonElement>(id));
  const started = Date.now();
  const show = (): void => say(`${text} … ${Math.round((Date.now() - started) / 1000)} s`);
  const ticking = window.setInterval(show, 1000);
  buttons.forEach((button) => (button.disabled = true));
  show();
  try {
    return await action();
  } finally {
    clearInterval(ticking);
    element("message").textContent = "";
    buttons.forEach((button) => (button.disabled = false));
  }
}

export function seconds(count: number): string {
  if (count < 90) return `${Math.round(count)} s`;
  return count < 5400 ? `${Math.round(count / 60)} min` : `${(count / 3600).toFixed(1)} h`;
}
