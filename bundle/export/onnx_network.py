"""A network that runs an ONNX file with ONNX Runtime, in place of the PyTorch network of a bundle."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bundle.export.onnx_export import import_required
from bundle.types import IMAGE, PRED, SEG, Heads

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class OnnxNetwork(nn.Module):
    """Network from an ONNX file of ``scripts/export_onnx.py``. It has no parameters and cannot be trained.

    Images on a GPU stay there if ONNX Runtime supports it (``onnxruntime-gpu``). Otherwise inference runs on the CPU,
    with a warning in the log.

    Args:
        path: the ONNX file; its input is ``image``, one of its outputs ``pred``.
        providers: execution providers of ONNX Runtime; by default chosen by the device of the images.
        threads: number of CPU threads; by default one per core, as in ONNX Runtime.
        settings: settings that the file must have been exported with, name -> value. Names that the file does not
            record are not checked.

    Raises:
        FileNotFoundError: if the file does not exist.
        RuntimeError: if ONNX Runtime is not installed.
        ValueError: if it is no such file, or was exported with other settings.
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
                f"no ONNX file at {self.path}; write it with scripts/export_onnx.py, or set --onnx_file"
            )
        self.runtime = import_required("onnxruntime")
        self.providers = None if providers is None else list(providers)
        self.threads = threads
        self._sessions: dict[str, Any] = {}
        session = self._session(torch.device("cpu"))
        self.names = [output.name for output in session.get_outputs()]
        inputs = [node.name for node in session.get_inputs()]
        if inputs != [IMAGE] or PRED not in self.names:
            raise ValueError(
                f"{self.path} has the inputs {', '.join(inputs)} and the outputs {', '.join(self.names)}, not "
                f"{IMAGE} and {PRED}; give a file of scripts/export_onnx.py"
            )
        self.written_for = _metadata(session)
        self._check_settings(settings or {})

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, C, H, W), float32, on the device of the image (B, 3, H, W)."""
        return self._run(image, [PRED])[PRED]

    def heads(self, image: Tensor) -> Heads:
        """Return all outputs of the file by head; a file written with ``--outputs pred`` has only one."""
        outputs = self._run(image, self.names)
        return {self.written_for.get("main_head", SEG): outputs.pop(PRED), **outputs}

    def _run(self, image: Tensor, names: Sequence[str]) -> Heads:
        image = torch.Tensor.detach(image).as_subclass(torch.Tensor).float().contiguous()  # without MONAI's metadata
        session = self._session(image.device)
        if image.device.type == "cuda" and session.get_providers()[0] == CUDA:
            return self._run_with_binding(session, image, names)
        outputs = session.run(list(names), {IMAGE: image.cpu().numpy()})
        return {name: torch.from_numpy(value).to(image.device) for name, value in zip(names, outputs, strict=True)}

    def _run_with_binding(self, session: Any, image: Tensor, names: Sequence[str]) -> Heads:
        """Let ONNX Runtime write its outputs into torch tensors on the device of the image, without a copy."""
        location = (image.device.type, image.device.index or 0, "float32")
        sizes = {"batch": image.shape[0], "height": image.shape[2], "width": image.shape[3]}
        shapes = {node.name: [sizes.get(side, side) for side in node.shape] for node in session.get_outputs()}
        outputs = {name: torch.empty(shapes[name], device=image.device) for name in names}
        binding = session.io_binding()
        binding.bind_input(IMAGE, *location, tuple(image.shape), image.data_ptr())
        for name, output in outputs.items():
            binding.bind_output(name, *location, tuple(output.shape), output.data_ptr())
        if image.is_cuda:
            torch.cuda.current_stream(image.device).synchronize()  # ONNX Runtime uses another stream
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return outputs

    def _session(self, device: torch.device) -> Any:
        """Return the session for a device. It is created on first use and cached.

        Raises:
            ValueError: if the file cannot be read.
        """
        key = str(device)
        if key not in self._sessions:
            settings = self.runtime.SessionOptions()
            settings.log_severity_level = 3
            if self.threads is not None:
                settings.intra_op_num_threads = self.threads
            try:
                session = self.runtime.InferenceSession(
                    os.fspath(self.path), settings, providers=self._providers(device)
                )
            except Exception as error:  # ONNX Runtime has its own exception classes
                raise ValueError(
                    f"{self.path} cannot be read as an ONNX file, or not with these providers; "
                    "write it again with scripts/export_onnx.py"
                ) from error
            self._sessions[key] = session
        return self._sessions[key]

    def _providers(self, device: torch.device) -> list[Any]:
        if self.providers is not None:
            return list(self.providers)
        if device.type == "cuda":
            if CUDA in self.runtime.get_available_providers():
                return [(CUDA, {"device_id": device.index or 0}), CPU]
            logger.warning("ONNX Runtime cannot use the GPU (pip install onnxruntime-gpu); running on the CPU")
        return [CPU]

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        differing = {
            name: (self.written_for[name], value)
            for name, value in settings.items()
            if name in self.written_for and self.written_for[name] != value
        }
        if differing:
            pairs = ", ".join(f"{name} {old}, not {new}" for name, (old, new) in differing.items())
            raise ValueError(
                f"{self.path} was exported with {pairs}; use the file and the settings of the same training"
            )


def _metadata(session: Any) -> dict[str, Any]:
    """Return the metadata of a file; values are decoded from JSON where possible."""
    metadata: dict[str, Any] = {}
    for name, text in session.get_modelmeta().custom_metadata_map.items():
        try:
            metadata[name] = json.loads(text)
        except json.JSONDecodeError:
            metadata[name] = text
    return metadata
