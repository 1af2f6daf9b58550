"""Export a trained network to ONNX and verify the file against the network.

    python scripts/export_onnx.py --ckpt models/model.pt --output models/model.onnx
    python scripts/export_onnx.py --ckpt_dir runs/unimatch --outputs all

The model.json beside the weights defines the network. Weights without it require the configs of their training, with
overlays (--config_file) and overrides (--key value). Batch size, height and width are dynamic; the input is image, the
output pred, and with --outputs all every map of the network. ONNX Runtime predicts three random batches on the CPU; if
an output differs from torch by more than 1e-4 (relative to its largest value, if that is above 1), no file is written.
Requires the extra: pip install .[onnx]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

if TYPE_CHECKING:
    from monai.bundle import ConfigParser


MODEL = "model.pt"
METADATA_KEYS = ("method", "classes", "pixel_size", "crop_size", "mean", "std")
"""Keys of the configs that become metadata of the file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of

    options = _parser()
    given, overrides = options.parse_known_args(arguments)
    try:
        changes = settings_of(overrides)
        if given.ckpt is not None and given.ckpt_dir is not None:
            raise ValueError("give either --ckpt or --ckpt_dir, not both")
    except ValueError as error:
        options.error(str(error))
    folder = given.ckpt_dir or ROOT / "models"
    model = given.ckpt or folder / MODEL
    try:
        files = _paths(given.config_file)
        if given.outputs != "pred":  # not all networks have this argument
            changes["network_def#outputs"] = given.outputs
        print(export(files, changes, model, given.output or model.with_suffix(".onnx"), given.opset, given.overwrite))
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
    parser.add_argument("--config_file", default=str(shipped), help="configs of the network (default: inference.json)")
    parser.add_argument("--ckpt", type=Path, help=f"weights file (default: models/{MODEL})")
    parser.add_argument("--ckpt_dir", type=Path, help=f"folder with {MODEL}, instead of --ckpt")
    parser.add_argument("--output", type=Path, help="output file (default: model.onnx beside the weights)")
    parser.add_argument(
        "--outputs", choices=("pred", "all"), default="pred", help="the prediction only, or all maps (default: pred)"
    )
    parser.add_argument("--opset", type=int, default=18, choices=range(13, 21), help="ONNX opset version (default: 18)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is not an export of a network")
    return parser


def _paths(config_file: str) -> list[str]:
    """Return the absolute paths of the configs in a command line."""
    from fire.parser import DefaultParseValue

    value = DefaultParseValue(config_file)
    return [str(Path(file).absolute()) for file in (value if isinstance(value, list | tuple) else [value])]


def export(
    files: Sequence[str], changes: Mapping[str, Any], model: Path, output: Path, opset: int, overwrite: bool = False
) -> str:
    """Write the file; nothing is written after an error.

    Args:
        files: configs with ``network_def``.
        changes: overrides, key -> value.
        model: weights file, a plain state dict.
        output: output file.
        opset: ONNX opset version.
        overwrite: whether to replace any file, and not only an earlier export.

    Returns:
        One line that describes the file.

    Raises:
        FileNotFoundError: if there are no weights.
        RuntimeError: if ``onnx`` or ``onnxruntime`` is missing.
        ValueError: if the output is another file, the weights do not fit the network, or the outputs of file and
            network differ.
    """
    from monai.bundle import ConfigParser

    from bundle.engines import ModelCheckpointLoader
    from bundle.export import check_onnx, is_own_export, write_onnx
    from bundle.networks import without_pretrained
    from bundle.utils import atomic_path
    from scripts.benchmarking import merged

    if not overwrite and output.is_file() and not is_own_export(output):
        raise ValueError(f"{output} is not an export of a network; give another --output, or --overwrite to replace it")
    config = merged(ROOT, files, {"bundle_root": str(ROOT), "ckpt_dir": str(model.parent), **changes})
    parser = ConfigParser(config | {"network_def": without_pretrained(config["network_def"])})
    network = parser.get_parsed_content("network_def").eval()
    ModelCheckpointLoader(network, model).load()
    main_head = getattr(network, "main_head", "seg")
    metadata = metadata_of(parser, Path(files[0]).with_name("metadata.json"), model, main_head)
    with atomic_path(output, clean=True) as partial:
        names = write_onnx(network, partial, metadata, opset)
        largest = check_onnx(network, partial)
        size = partial.stat().st_size
    kind = type(network).__name__
    return f"{output}: {kind}, {', '.join(names)}; {size / 1e6:.1f} MB, largest difference from torch {largest:.1g}"


def metadata_of(parser: ConfigParser, metadata: Path, model: Path, main_head: str) -> dict[str, str]:
    """Return the metadata of the file: strings as they are, other values as JSON.

    Args:
        parser: configs of the export.
        metadata: path of metadata.json beside the configs.
        model: weights file.
        main_head: name of the head that is ``pred``.
    """
    from bundle.engines.component_definitions import plain_definition

    shipped = metadata if metadata.is_file() else ROOT / "configs" / "metadata.json"
    entries: dict[str, Any] = {
        "bundle_version": json.loads(shipped.read_text(encoding="utf-8"))["version"],
        "main_head": main_head,
        "weights": f"sha256:{hashlib.sha256(model.read_bytes()).hexdigest()}",
        **{key: plain_definition(parser, key) for key in METADATA_KEYS if key in parser},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}


if __name__ == "__main__":
    sys.exit(main())
