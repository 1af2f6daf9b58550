"""MONAI's supervised trainer with a second stream of unlabeled images."""

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

from bundle.types import FILE, IMAGE, Batch, EngineHandler

logger = logging.getLogger(__name__)


def tensors_of(batch: Batch, device: torch.device, non_blocking: bool = False) -> Batch:
    """Return the tensors of a batch on a device, as plain tensors; other entries, such as file names, are dropped."""
    moved = {}
    for key, value in batch.items():
        if isinstance(value, Tensor):
            plain = value.as_tensor() if isinstance(value, MetaTensor) else value
            moved[key] = plain.to(device, non_blocking=non_blocking)
    return moved


def file_names(batch: Batch | None) -> list[str]:
    """Return the file names of the images of a batch, if known."""
    batch = batch or {}
    image = batch.get(IMAGE)
    names = image.meta.get("filename_or_obj", []) if isinstance(image, MetaTensor) else batch.get(FILE, [])
    return [names] if isinstance(names, str) else [str(name) for name in names]


class SemiSupervisedTrainer(SupervisedTrainer):
    """MONAI's ``SupervisedTrainer`` with a ``Step`` on a labeled and an unlabeled batch in each iteration.

    It is independent of methods, heads and pseudo-labelers. All events of MONAI are fired. An iteration has one
    backward pass and one optimizer step. Both streams restart in each epoch, so that an epoch depends only on its
    number and the seed. After an iteration ``state.output`` holds ``image``, ``label`` and ``loss``, and
    ``state.step`` holds everything that the step logs, detached: numbers, and gate weights (B, K).

    Args:
        device: device of the training.
        max_epochs: number of epochs.
        train_data_loader: labeled batches; restarts if it ends before the epoch.
        network: the bare network, shared with ``step``; it is saved, evaluated and sent to federated servers.
        step: ``bundle.semi_supervision.Step``, or DistributedDataParallel around it.
        optimizer: optimizer of the parameters of network and objective.
        ema: moving average of the network, attached by this class; ``None`` for none.
        unlabeled_data_loader: unlabeled batches; restarts likewise; ``None`` for supervised training.
        epoch_length: iterations per epoch; default is the length of the longer loader.
        seed: if given, all random numbers of an epoch (crops, flips, dropout, order) are a function of the seed, the
            epoch, the rank and the number of loader workers. Not supported with ``persistent_workers``, which keep
            random states over epochs.
        **rest: as for MONAI's ``SupervisedTrainer``.

    Raises:
        ValueError: if the labeled loader is empty.
        FloatingPointError: if a loss is NaN or infinite; the message names step, losses and files.
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
        ema: EngineHandler | None = None,
        loss_function: Callable | None = None,
        train_handlers: Sequence | None = None,
        **rest: Any,
    ) -> None:
        if len(train_data_loader) == 0:
            raise ValueError("there is no labeled image to train on: add entries under 'training' to the data list")
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
        if ema is not None:
            ema.attach(self)

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]: 0 in the first iteration, 1 in the last."""
        total = (self.state.max_epochs or 1) * (self.state.epoch_length or 1)
        return min(max((self.state.iteration - 1) / max(total - 1, 1), 0.0), 1.0)

    def run(self) -> None:  # type: ignore[override]
        """Train up to ``state.max_epochs``; do nothing if this epoch is already reached."""
        if 0 < (self.state.max_epochs or 0) <= self.state.epoch:
            logger.info("All %d epochs are already done.", self.state.max_epochs)
            return
        try:
            super().run()
        finally:  # ends the loader processes now, not when Python collects the trainer
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
        """Run the step on both batches, one backward pass and one optimizer step (unless accumulated)."""
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
        self._check_finite(batchdata, unlabeled_data)
        self._update(loss, last)
        if self.state.iteration % self.state.epoch_length == 0:
            self._share_buffers()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _share_buffers(self) -> None:
        """Copy the running statistics of rank 0 to all ranks, so that they validate the network that rank 0 saves."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _accumulation(self) -> tuple[bool, bool]:
        """Return whether this iteration is the first and the last one of an optimizer step."""
        length = self.state.epoch_length
        index = (self.state.iteration - 1) % length
        last = (index + 1) % self.accumulation_steps == 0 or index + 1 == length
        return index % self.accumulation_steps == 0, last

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

    def _check_finite(self, labeled: Batch, unlabeled: Batch | None) -> None:
        """Raise an error for a loss that is not finite, before it reaches the weights; syncs the device once a step."""
        loss = self.state.step["loss"]
        if bool(torch.isfinite(loss).all()):
            return
        numbers = {name: value for name, value in self.state.step.items() if value.ndim == 0}
        parts = ", ".join(f"{name} {float(value):.4g}" for name, value in sorted(numbers.items()))
        files = ", ".join(file_names(labeled) + file_names(unlabeled)) or "unknown"
        raise FloatingPointError(
            f"the loss is {float(loss.mean())} in step {self.state.iteration} (epoch {self.state.epoch}); "
            f"training stopped. Losses: {parts}. Files: {files}. "
            "Lower the learning rate, disable amp, or check these images."
        )
