"""Summaries at the end of a run: score, files, and commands that use the model."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ignite import distributed as idist
from ignite.engine import Engine

logger = logging.getLogger(__name__)


class Best(Protocol):
    """Handler that saves the best network, such as ``BestModel``."""

    name: str | None
    """Name of the compared metric."""
    score: float | None
    epoch: int | None


class TrainingSummary:
    """Log message with the result, files and next commands of a training; the ``training`` list calls :meth:`log` last.

    Args:
        model: file of the weights.
        output_dir: folder of the training log and montages.
        bundle_root: folder of the bundle, for the commands.
        dataset_dir: folder of the data, for the commands.
        best_model: handler that saved the best network; ``None`` without validation.
        images: entries of the training images; if they have an ``mpp``, the command for inference contains ``--mpp``.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
        bundle_root: str | os.PathLike[str],
        dataset_dir: str | os.PathLike[str],
        best_model: Best | None = None,
        images: Iterable[Any] = (),
    ) -> None:
        self.model = Path(model)
        self.output_dir = Path(output_dir)
        self.bundle_root = Path(bundle_root)
        self.dataset_dir = Path(dataset_dir)
        self.best_model = best_model
        self.with_mpp = any(isinstance(image, Mapping) and "mpp" in image for image in images)

    def log(self, trainer: Engine) -> None:
        """Log the summary of a training that has ended."""
        if idist.get_rank() != 0:
            return
        if not self.model.is_file():
            logger.warning("Training ended without a model: no epoch was completed.")
            return
        lines = [
            f"model      {self.model} ({self.model.with_suffix('.json').name} beside it describes it)",
            f"log        {self.output_dir / 'training.csv'}",
            f"curves     {command_line(['tensorboard', '--logdir', str(self.output_dir)])}",
        ]
        pictures = sorted(self.output_dir.glob("montage_*.png"))
        lines += [f"pictures   {pictures[-1]} and those of earlier validations"] if pictures else []
        lines += [f"evaluate   {self._command('evaluating', 'train.json', 'evaluate.json')}"]
        lines += [f"predict    {self._command('inference', 'inference.json')}"]
        logger.info("%s\n%s", self._result(trainer), "\n".join(f"  {line}" for line in lines))

    def _result(self, trainer: Engine) -> str:
        seconds = trainer.state.times.get("COMPLETED") or 0.0
        done = f"Training ended after {trainer.state.iteration} steps ({trainer.state.epoch} epochs)"
        done += f" in {duration(seconds)}" if seconds else ""
        best = self.best_model
        if best is None or best.score is None:
            return f"{done}. There was no validation: the network of the last epoch is saved."
        return f"{done}. Best {best.name or 'score'} on the validation images: {best.score:.4f}, in epoch {best.epoch}."

    def _command(self, run_id: str, *names: str) -> str:
        configs = [str(self.bundle_root / "configs" / name) for name in names]
        config_file = repr(configs).replace(" ", "") if len(configs) > 1 else configs[0]
        command = ["python", "-m", "monai.bundle", "run", run_id, "--config_file", config_file]
        command += [] if str(self.bundle_root) == "." else ["--bundle_root", str(self.bundle_root)]
        command += ["--ckpt_dir", str(self.model.parent), "--dataset_dir"]
        if run_id == "inference":
            return f"{command_line(command)} FOLDER_OF_IMAGES{' --mpp UM_PER_PX_OF_THESE' if self.with_mpp else ''}"
        return command_line([*command, str(self.dataset_dir)])


class EvaluationSummary:
    """Log message with the files of an evaluation; the ``evaluating`` list calls :meth:`log` last.

    Args:
        output_dir: folder of the evaluation.
    """

    def __init__(self, output_dir: str | os.PathLike[str]) -> None:
        self.output_dir = Path(output_dir)

    def log(self) -> None:
        """Log the output files that exist."""
        outputs = {
            "scores": "metrics.csv",
            "by image": "per_image.csv",
            "picture": "montage.png",
            "masks": "masks",
        }
        paths = {name: self.output_dir / file for name, file in outputs.items() if (self.output_dir / file).exists()}
        if idist.get_rank() == 0 and paths:
            logger.info("Evaluation ended.\n%s", "\n".join(f"  {name:<11}{path}" for name, path in paths.items()))


def duration(seconds: float) -> str:
    """Return a time as text, such as ``12 seconds`` or ``3.5 minutes``."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def command_line(arguments: Iterable[str]) -> str:
    """Join words to a shell command; words with single quotes, such as lists of configs, get double quotes."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in arguments
    )
