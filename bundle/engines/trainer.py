"""The one trainer: MONAI's supervised trainer with a second stream of images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.data.utils import set_rnd
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bundle.types import FILE, IMAGE, Batch

logger = logging.getLogger(__name__)


def tensors_of(batch: Batch, device: torch.device, non_blocking: bool = False) -> Batch:
    """The plain tensors of a batch on a device; file names and the like stay behind."""
    moved = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            plain = value.as_tensor() if isinstance(value, MetaTensor) else value
            moved[key] = plain.to(device, non_blocking=non_blocking)
    return moved


def file_names(batch: Batch | None) -> list[str]:
    """The files that the images of a batch came from, as far as they are known."""
    found = batch or {}
    image = found.get(IMAGE)
    names = image.meta.get("filename_or_obj", []) if isinstance(image, MetaTensor) else found.get(FILE, [])
    return [names] if isinstance(names, str) else [str(name) for name in names]


class SemiSupervisedTrainer(SupervisedTrainer):
    """MONAI's ``SupervisedTrainer`` whose iteration takes a labeled and an unlabeled batch through a ``Step``.

    It knows no method, head or pseudo-labeler. All events of MONAI are kept; one backward and one optimizer step an
    iteration; both streams restart with each epoch, so that an epoch depends on seed and number alone. After an
    iteration ``state.output`` holds ``image``, ``label`` and ``loss``, ``state.step`` all that the step logged,
    detached: numbers, and gate weights (B, K).

    Args:
        device: where to train.
        max_epochs: number of epochs.
        train_data_loader: labeled batches; starts again when it ends before the epoch.
        network: the bare network, shared with ``step``: what is saved, evaluated and sent to others.
        step: a ``bundle.semi_supervision.Step``, or DistributedDataParallel around one.
        optimizer: over the parameters of network and objective.
        unlabeled_data_loader: unlabeled batches; starts again likewise; ``None`` for supervised training.
        epoch_length: iterations an epoch; default is the longer of the two loaders.
        seed: with it, all random numbers of an epoch (crops, flips, dropout, order) are a function of this seed,
            the epoch and the rank. Not with ``persistent_workers``, which keep random states over epochs.
        **rest: as for MONAI's ``SupervisedTrainer``.

    Raises:
        ValueError: when the labeled loader is empty.
        FloatingPointError: when a loss is NaN or infinite; says the step, the parts and the files.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        network: nn.Module,
        step: nn.Module,
        optimizer: torch.optim.Optimizer,
        unlabeled_data_loader: DataLoader | None = None,
        epoch_length: int | None = None,
        seed: int | None = None,
        loss_function: Callable | None = None,
        train_handlers: Sequence | None = None,
        **rest: Any,
    ) -> None:
        if len(train_data_loader) == 0:
            raise ValueError("there is no labeled image to train on: give the data list entries under 'training'")
        if epoch_length is None:
            epoch_length = max(len(train_data_loader), len(unlabeled_data_loader or ()))
        self.step = step
        self.unlabeled_data_loader = unlabeled_data_loader
        self.seed = seed
        self._unlabeled: Iterator[Batch] | None = None
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function if loss_function is not None else step,
            epoch_length=epoch_length,
            train_handlers=train_handlers,
            **rest,
        )
        self.add_event_handler(Events.EPOCH_STARTED, self._restart_streams)

    @property
    def progress(self) -> float:
        """Share of training that is over, in [0, 1]: 0 in the first iteration, 1 in the last."""
        total = (self.state.max_epochs or 1) * (self.state.epoch_length or 1)
        return min(max((self.state.iteration - 1) / max(total - 1, 1), 0.0), 1.0)

    def run(self) -> None:  # type: ignore[override]
        """Train up to ``state.max_epochs``; a training that is already there is left as it is."""
        if 0 < (self.state.max_epochs or 0) <= self.state.epoch:
            logger.info("All %d epochs are done: nothing left to train.", self.state.max_epochs)
            return
        try:
            super().run()
        finally:  # loader processes end now, and not seconds after Python has collected the trainer
            self._dataloader_iter = self._unlabeled = None

    def _restart_streams(self) -> None:
        epoch = self.state.epoch
        loaders: tuple[Any, ...] = (self.data_loader, self.unlabeled_data_loader)
        for stream, loader in enumerate(loaders):
            sampler: Any = getattr(loader, "sampler", None)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            if self.seed is not None and loader is not None:
                set_rnd(loader.dataset, seed=self._epoch_seed(stream))
        if self.seed is not None:
            torch.manual_seed(self._epoch_seed(2))
        self.set_data(self.data_loader)
        self._unlabeled = None

    def _epoch_seed(self, stream: int) -> int:
        sequence = np.random.SeedSequence([self.seed or 0, self.state.epoch, self.state.rank, stream])
        return int(sequence.generate_state(1)[0])

    def _next_unlabeled(self) -> Batch | None:
        if self.unlabeled_data_loader is None:
            return None
        if self._unlabeled is None:
            self._unlabeled = iter(self.unlabeled_data_loader)
        batch = next(self._unlabeled, None)
        if batch is None:
            self._unlabeled = iter(self.unlabeled_data_loader)
            batch = next(self._unlabeled)
        return batch

    def _iteration(self, engine: SupervisedTrainer, batchdata: Batch) -> dict:
        """One iteration: both batches, the step, one backward, one optimizer step (unless accumulated)."""
        unlabeled_data = self._next_unlabeled()
        labeled = tensors_of(batchdata, self.state.device, self.non_blocking)
        unlabeled = unlabeled_data and tensors_of(unlabeled_data, self.state.device, self.non_blocking)
        self.state.output = {key: labeled[key] for key in (CommonKeys.IMAGE, CommonKeys.LABEL) if key in labeled}
        first, last = self._accumulation()
        self.network.train()
        if first:
            self.optimizer.zero_grad(set_to_none=self.optim_set_to_none)
        with torch.autocast("cuda", enabled=self.amp and self.scaler is not None, **self.amp_kwargs):
            result = self.step(labeled, unlabeled, self.progress)
        loss = result["loss"].mean()
        self.state.step = {name: value.detach() for name, value in result.items()}
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        self.state.output[CommonKeys.LOSS] = loss
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        self._refuse_nan(batchdata, unlabeled_data)
        self._update(loss, last)
        if self.state.iteration % self.state.epoch_length == 0:
            self._share_buffers()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _share_buffers(self) -> None:
        """Give all ranks the running statistics of rank 0, so that they validate the network that rank 0 saves."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _accumulation(self) -> tuple[bool, bool]:
        """Whether this iteration is the first and the last of those that share an optimizer step."""
        length = self.state.epoch_length
        place = (self.state.iteration - 1) % length
        last = (place + 1) % self.accumulation_steps == 0 or place + 1 == length
        return place % self.accumulation_steps == 0, last

    def _update(self, loss: Tensor, last: bool) -> None:
        scaled = self.scaler.scale(loss) if self.amp and self.scaler is not None else loss
        (scaled / self.accumulation_steps).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if not last:
            return
        if self.amp and self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()

    def _refuse_nan(self, labeled: Batch, unlabeled: Batch | None) -> None:
        """Stop before a loss that is no number reaches the weights; this waits for the device once a step."""
        loss = self.state.step["loss"]
        if bool(torch.isfinite(loss).all()):
            return
        numbers = {name: value for name, value in self.state.step.items() if value.ndim == 0}
        parts = ", ".join(f"{name} {float(value):.4g}" for name, value in sorted(numbers.items()))
        files = ", ".join(file_names(labeled) + file_names(unlabeled)) or "not known"
        raise FloatingPointError(
            f"the loss is {float(loss.mean())} in step {self.state.iteration} (epoch {self.state.epoch}); "
            f"training stopped. Parts: {parts}. Files: {files}. "
            "Lower the learning rate, switch amp off, or look at these images."
        )
