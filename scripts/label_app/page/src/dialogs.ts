/** Questions that the page asks. */

import { element } from "./dom";
import type { Server } from "./server";

/** Ask what to do if somebody else has saved a label meanwhile: keep mine, load theirs, or neither. */
export async function askConflict(reason: string): Promise<string> {
  const dialog = element<HTMLDialogElement>("conflict");
  const sentence = reason.charAt(0).toUpperCase() + reason.slice(1);
  dialog.querySelector("p")!.textContent = `${sentence}. A replaced label stays in the history of the folder.`;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  return dialog.returnValue;
}

/** Ask for name and password, until the server gives a token. */
export function askLogin(server: Server, done: () => void): void {
  const dialog = element<HTMLDialogElement>("login");
  if (dialog.open) return;
  const form = dialog.querySelector("form")!;
  form.onsubmit = (event) => {
    event.preventDefault();
    const data = new FormData(form);
    void server.login(String(data.get("user")), String(data.get("password"))).then(
      () => {
        dialog.close();
        form.reset();
        done();
      },
      (error: Error) => (form.querySelector("p")!.textContent = `No login: ${error.message}`),
    );
  };
  dialog.showModal();
}
