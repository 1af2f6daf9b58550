"""Write a trained network as an ONNX file, and hold it against the network before the file appears.

    python scripts/export_onnx.py --ckpt models/model.pt --output models/model.onnx
    python scripts/export_onnx.py --ckpt_dir runs/unimatch --outputs all

The network is that of the model.json beside the weights. Weights without one need the configs of their training, with
its overlays (--config_file) and overrides (--key value). The file has free batch, height and width: input image, output
pred, with --outputs all every map of the network. ONNX Runtime answers three batches of noise by it on the CPU; where
an answer differs from torch's by more than 1e-4 (of an output whose values go beyond 1: times the largest of them),
nothing is left. Needs the extra: pip install .[onnx]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MODEL = "model.pt"
TOLD = {key: key for key in ("method", "classes", "pixel_size", "crop_size", "mean", "std")}
"""Metadata of the file, and the keys of the configs whose values they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    from bundle.benchmark import settings_of
    from bundle.engines.error_summary import sentence

    options = _parser()
    given, words = options.parse_known_args(arguments)
    try:
        changes = settings_of(words)
        if given.ckpt is not None and given.ckpt_dir is not None:
            raise ValueError("give either --ckpt or --ckpt_dir")
    except ValueError as error:
        options.error(str(error))
    folder = given.ckpt_dir or ROOT / "models"
    model = given.ckpt or folder / MODEL
    try:
        files = _paths(given.config_file)
        if given.outputs != "pred":  # the default is left unsaid, for networks that know no other
            changes["network_def#outputs"] = given.outputs
        print(export(files, changes, model, given.output or model.with_suffix(".onnx"), given.opset))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"export_onnx: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export_onnx: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    shipped = ROOT / "configs" / "inference.json"
    parser.add_argument(
        "--config_file", default=str(shipped), help="configs that have the network (default inference.json)"
    )
    parser.add_argument("--ckpt", type=Path, help=f"file of the weights (default models/{MODEL})")
    parser.add_argument("--ckpt_dir", type=Path, help=f"folder with {MODEL}, in place of --ckpt")
    parser.add_argument("--output", type=Path, help="file to write (default beside the weights, model.onnx)")
    parser.add_argument("--outputs", choices=("pred", "all"), default="pred", help="the answer alone, or every map")
    parser.add_argument(
        "--opset", type=int, default=18, choices=range(13, 21), help="version of the ONNX operators (default 18)"
    )
    return parser


def _paths(config_file: str) -> list[str]:
    """Configs of a command line, from the working directory."""
    from fire.parser import DefaultParseValue

    found = DefaultParseValue(config_file)
    return [str(Path(file).absolute()) for file in (found if isinstance(found, list | tuple) else [found])]


def export(files: Sequence[str], changes: Mapping[str, Any], model: Path, output: Path, opset: int) -> str:
    """Write the file, whole or not at all.

    Args:
        files: configs that have ``network_def``.
        changes: overrides, key -> value.
        model: the weights, a plain state dict.
        output: file to write.
        opset: version of the ONNX operators.

    Returns:
        What was written, in one line.

    Raises:
        FileNotFoundError: where there are no weights.
        RuntimeError: without ``onnx`` or ``onnxruntime``.
        ValueError: where the weights are of another network, or the file does not answer like it.
    """
    from monai.bundle import ConfigParser

    from bundle.benchmark import merged
    from bundle.engines import ModelCheckpointLoader
    from bundle.engines.files import whole
    from bundle.networks import check_onnx, without_pretrained, write_onnx

    config = merged(ROOT, files, {"bundle_root": str(ROOT), "ckpt_dir": str(model.parent), **changes})
    parser = ConfigParser(config | {"network_def": without_pretrained(config["network_def"])})
    network = parser.get_parsed_content("network_def").eval()
    ModelCheckpointLoader(network, model).load()
    said = metadata_of(parser, Path(files[0]).with_name("metadata.json"), model, getattr(network, "answer", "seg"))
    with whole(output) as partial:
        names = write_onnx(network, partial, said, opset)
        worst = check_onnx(network, partial)
        size = partial.stat().st_size
    kind = type(network).__name__
    return f"{output}: {kind}, {', '.join(names)}; {size / 1e6:.1f} MB, differs from torch by {worst:.1g} at most"


def metadata_of(parser: ConfigParser, metadata: Path, model: Path, answer: str) -> dict[str, str]:
    """What the file says of itself: texts as they are, all else as JSON.

    Args:
        parser: parser of the configs of the export.
        metadata: metadata.json beside them.
        model: the weights.
        answer: name of the head that is ``pred``.
    """
    from bundle.engines.definitions import plain_definition

    shipped = metadata if metadata.is_file() else ROOT / "configs" / "metadata.json"
    said: dict[str, Any] = {
        "bundle_version": json.loads(shipped.read_text(encoding="utf-8"))["version"],
        "answer": answer,
        "weights": f"sha256:{hashlib.sha256(model.read_bytes()).hexdigest()}",
        **{name: plain_definition(parser, key) for name, key in TOLD.items() if key in parser},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}


if __name__ == "__main__":
    sys.exit(main())
