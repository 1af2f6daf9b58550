/** Training: progress, time left and decision. */

import { attempt, element, onClick, say, seconds } from "./dom";
import type { Server, Training } from "./server";

/** Minutes that the server accepts: a week. */
const MOST_MINUTES = 10080;

export class TrainingPanel {
  /** Called when a training ends while the page is open. */
  onEnd: (training: Training) => void = () => {};
  running = false;

  private readonly start = element<HTMLButtonElement>("train");
  private readonly stop = element<HTMLButtonElement>("stop");
  private readonly minutes = element<HTMLInputElement>("minutes");
  private readonly bar = element<HTMLProgressElement>("progress");

  constructor(private readonly server: Server) {
    onClick("train", () => this.train());
    onClick("stop", () => server.stop());
    this.minutes.addEventListener("input", () => (element("schedule").hidden = !this.isLimited()));
  }

  async train(): Promise<void> {
    const epochs = element<HTMLInputElement>("epochs");
    if (!epochs.reportValidity()) return;
    const minutes = this.minutes.valueAsNumber;
    if (this.isLimited() && !(minutes > 0 && minutes <= MOST_MINUTES)) {
      say(`The minutes must be a number above 0 and at most ${MOST_MINUTES}; leave them empty for no limit.`, "error");
      return this.minutes.focus();
    }
    this.start.disabled = true;
    try {
      await this.server.train({ max_epochs: epochs.valueAsNumber, ...(this.isLimited() ? { minutes } : {}) });
      this.show({ state: "starting" });
    } finally {
      this.start.disabled = this.running;
    }
  }

  /** Whether something is in the field of minutes, even if it is no number. */
  private isLimited(): boolean {
    return this.minutes.value !== "" || this.minutes.validity.badInput;
  }

  /** Show the state of the training that the server reports. */
  show(training: Training): void {
    const ran = this.running;
    this.running = training.state === "starting" || training.state === "running";
    this.start.disabled = this.running;
    this.stop.hidden = this.bar.hidden = !this.running;
    element("training").textContent = this.running ? this.progress(training) : this.summary(training);
    const decision = element("decision");
    decision.textContent = this.running ? "" : this.decision(training);
    decision.dataset["taken"] = String(training.taken ?? "");
    if (ran && !this.running) {
      say(`Training: ${training.reason ?? training.state}`, training.state === "done" ? "info" : "error");
      void attempt(() => this.onEnd(training));
    }
  }

  private progress(training: Training): string {
    const { progress } = training;
    if (!progress?.steps || progress.step === undefined) {
      this.bar.removeAttribute("value");
      if (training.state === "starting") return "Starting …";
      return "Preparing: reading labels, evaluating the model of now …";
    }
    this.bar.value = progress.share ?? progress.step / progress.steps;
    const loss = typeof progress.loss !== "number" ? "" : `, loss ${progress.loss.toPrecision(3)}`;
    if (progress.step >= progress.steps) return `Training done, ${progress.epoch} epochs${loss}; evaluating the new model …`;
    const left = typeof progress.seconds_left !== "number" ? "" : `, ${seconds(progress.seconds_left)} left`;
    return `Epoch ${progress.epoch} of ${progress.epochs}${loss}${left}`;
  }

  private summary(training: Training): string {
    if (!training.state) return "No training yet.";
    if (training.labeled === undefined) return `Last training: ${training.state}.`;
    const duration = training.seconds === undefined ? "" : ` in ${seconds(training.seconds)}`;
    const { labeled, validation, unlabeled } = training;
    return `Last training${duration}: ${labeled} labeled, ${unlabeled} unlabeled, ${validation} for validation.`;
  }

  private decision(training: Training): string {
    if (training.state === "done" && typeof training.before === "number" && typeof training.after === "number") {
      const outcome = training.taken ? "The new model is used" : "The previous model is kept";
      return `${outcome}: Dice ${training.before.toFixed(3)} before, ${training.after.toFixed(3)} after.`;
    }
    return training.reason ?? "";
  }
}
