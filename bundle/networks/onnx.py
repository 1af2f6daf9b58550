"""A network that answers by ONNX Runtime, from a file, where a bundle has its own network."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks.onnx_file import required
from bundle.networks.outputs import PRED
from bundle.types import IMAGE, SEG, Heads

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class OnnxNetwork(nn.Module):
    """What ``scripts/export_onnx.py`` wrote, as a network: it has no weights to load, and none to train.

    Images on a GPU are answered there where ONNX Runtime can (``onnxruntime-gpu``), without a copy to the CPU; else on
    the CPU, which the log says.

    Args:
        path: the ONNX file; its input is ``image``, one of its outputs ``pred``.
        providers: execution providers of ONNX Runtime; default by the device of the images.
        threads: CPU threads; default is ONNX Runtime's, one a core.
        settings: what the file must have been written for, name -> value; a name that it does not know is let pass.

    Raises:
        FileNotFoundError: where there is no file.
        RuntimeError: without ONNX Runtime.
        ValueError: where it is no such file, or was written for other settings.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"no ONNX file at {self.path}; write it by scripts/export_onnx.py, or give --onnx_file"
            )
        self.runtime = required("onnxruntime")
        self.providers = None if providers is None else list(providers)
        self.threads = threads
        self._sessions: dict[str, Any] = {}
        session = self._session(torch.device("cpu"))
        self.names = [output.name for output in session.get_outputs()]
        inputs = [one.name for one in session.get_inputs()]
        if inputs != [IMAGE] or PRED not in self.names:
            raise ValueError(
                f"{self.path} takes {', '.join(inputs)} and answers {', '.join(self.names)}, where {IMAGE} and {PRED} "
                "are expected; give a file of scripts/export_onnx.py"
            )
        self.written_for = _metadata(session)
        self._compare(settings or {})

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, H, W) in float32, on the device of the images (B, 3, H, W)."""
        return self._answers(image, [PRED])[PRED]

    def heads(self, image: Tensor) -> Heads:
        """Every map of the file by the name of its head; of one written with ``--outputs pred`` that is the answer."""
        answers = self._answers(image, self.names)
        return {self.written_for.get("answer", SEG): answers.pop(PRED), **answers}

    def _answers(self, image: Tensor, names: Sequence[str]) -> Heads:
        image = torch.Tensor.detach(image).as_subclass(torch.Tensor).float().contiguous()  # no metadata of MONAI's
        session = self._session(image.device)
        if image.device.type == "cuda" and session.get_providers()[0] == CUDA:
            return self._bound(session, image, names)
        found = session.run(list(names), {IMAGE: image.cpu().numpy()})
        return {name: torch.from_numpy(value).to(image.device) for name, value in zip(names, found, strict=True)}

    def _bound(self, session: Any, image: Tensor, names: Sequence[str]) -> Heads:
        """Answers that ONNX Runtime writes where torch has room for them, on the device of the image."""
        place = (image.device.type, image.device.index or 0, "float32")
        sizes = {"batch": image.shape[0], "height": image.shape[2], "width": image.shape[3]}
        shapes = {one.name: [sizes.get(side, side) for side in one.shape] for one in session.get_outputs()}
        answers = {name: torch.empty(shapes[name], device=image.device) for name in names}
        binding = session.io_binding()
        binding.bind_input(IMAGE, *place, tuple(image.shape), image.data_ptr())
        for name, room in answers.items():
            binding.bind_output(name, *place, tuple(room.shape), room.data_ptr())
        if image.is_cuda:
            torch.cuda.current_stream(image.device).synchronize()  # ONNX Runtime has a stream of its own
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return answers

    def _session(self, device: torch.device) -> Any:
        """The session for a device, made when it is first asked for; that of the CPU is kept, for it checked the file.

        Raises:
            ValueError: where the file cannot be read.
        """
        place = str(device)
        if place not in self._sessions:
            settings = self.runtime.SessionOptions()
            settings.log_severity_level = 3
            if self.threads is not None:
                settings.intra_op_num_threads = self.threads
            try:
                made = self.runtime.InferenceSession(os.fspath(self.path), settings, providers=self._providers(device))
            except Exception as error:  # classes of ONNX Runtime's own
                raise ValueError(
                    f"{self.path} cannot be read as an ONNX file, or not by these providers; "
                    "write it again by scripts/export_onnx.py"
                ) from error
            self._sessions[place] = made
        return self._sessions[place]

    def _providers(self, device: torch.device) -> list[Any]:
        if self.providers is not None:
            return list(self.providers)
        if device.type == "cuda":
            if CUDA in self.runtime.get_available_providers():
                return [(CUDA, {"device_id": device.index or 0}), CPU]
            logger.warning("ONNX Runtime cannot use the GPU here (pip install onnxruntime-gpu); it answers on the CPU")
        return [CPU]

    def _compare(self, settings: Mapping[str, Any]) -> None:
        differing = {
            name: (self.written_for[name], value)
            for name, value in settings.items()
            if name in self.written_for and self.written_for[name] != value
        }
        if differing:
            told = ", ".join(f"{name} {there} and not {here}" for name, (there, here) in differing.items())
            raise ValueError(f"{self.path} was written for {told}; give the file or the settings of one training")


def _metadata(session: Any) -> dict[str, Any]:
    """What a file says of itself; values are JSON where they are no plain text."""
    found: dict[str, Any] = {}
    for name, text in session.get_modelmeta().custom_metadata_map.items():
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found
