"""Damaged files of all kinds that the bundle reads: a seeded generator of cases, several hundred."""

from __future__ import annotations

import copy
import gzip
import io
import itertools
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import tifffile
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from PIL import Image
from torch import nn

from bundle.engines import BestModel

SEED = 20
MARKER = "code_was_executed"
"""Name of the file that a payload writes."""
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Case:
    """A damaged file: kind, description of the damage, name and content."""

    kind: str
    fault: str
    name: str
    content: bytes


class Payload:
    """Object whose unpickling writes ``MARKER`` to the working directory."""

    def __init__(self, call: Any = open, arguments: tuple[Any, ...] = (MARKER, "w")) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def all_cases() -> list[Case]:
    """Return all cases, the same in each call, kind after kind."""
    parts = (
        pictures,
        masks,
        data_lists,
        overlays,
        checkpoints,
        descriptions,
        resume_files,
        slides,
        annotations,
        journals,
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return [Case(part.__name__, *case) for part in parts for case in part(random.Random(SEED))]


Cases = Iterator[tuple[str, str, bytes]]


def damaged(data: bytes, chance: random.Random, flips: int = 5) -> Iterator[tuple[str, bytes]]:
    """Yield a content with common damages: truncation, flipped bits, lost and repeated blocks, other content."""
    yield "zero length", b""
    for share in (0.02, 0.3, 0.6, 0.97):
        yield f"truncated to {share:.0%}", data[: int(len(data) * share)]
    for number in range(flips):
        changed = bytearray(data)
        for _ in range(1 + 4 * number):
            changed[chance.randrange(min(len(data), 400 if number % 2 else len(data)))] ^= 1 << chance.randrange(8)
        yield f"{1 + 4 * number} flipped bits", bytes(changed)
    middle = len(data) // 2
    yield "zeros in the middle", data[:middle] + bytes(len(data) // 8) + data[middle + len(data) // 8 :]
    yield "garbage at the start", bytes(chance.randrange(256) for _ in range(16)) + data[16:]
    yield "a page of a web server", b"<!DOCTYPE html><html><title>404 Not Found</title></html>"


# Pictures and masks


def pixels(*shape: int) -> Any:
    """Return random values, the same in each call."""
    return np.random.default_rng(SEED).integers(0, 256, shape).astype(np.uint8)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture in a format."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(array: Any, **options: Any) -> bytes:
    """Return a TIFF."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def nifti(array: Any, shape: tuple[int, ...] | None = None) -> bytes:
    """Return a NIfTI volume that may declare another shape than it has."""
    data = bytearray(nibabel.Nifti1Image(array, np.eye(4)).to_bytes())
    if shape is not None:
        data[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    return bytes(data)


def png_of_size(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    """Return a PNG that declares a size, with a few pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


def with_tag(data: bytes, **changes: Any) -> bytes:
    """Return a TIFF whose pages declare other values."""
    file = io.BytesIO(data)
    with tifffile.TiffFile(file, mode="r+b") as opened:
        for page in opened.pages:
            for name, value in changes.items():
                page.tags[name].overwrite(value)
    return file.getvalue()


def pictures(chance: random.Random) -> Cases:
    """Yield damaged images in all formats."""
    color = Image.fromarray(pixels(24, 30, 3))
    valid = {
        "png": [encoded(color, "PNG"), encoded(color.quantize(16), "PNG"), encoded(color.convert("RGBA"), "PNG")],
        "jpg": [encoded(color, "JPEG"), encoded(color.convert("CMYK"), "JPEG")],
        "bmp": [encoded(color, "BMP")],
        "tif": [
            tiff(pixels(24, 30, 3), photometric="rgb"),
            tiff(pixels(24, 30, 3), compression="zlib", photometric="rgb"),
        ],
        "tiff": [tiff(pixels(24, 30).astype(np.uint16) * 257), encoded(color, "TIFF", compression="jpeg")],
        "nii": [nifti(pixels(24, 30, 1, 3))],
        "nii.gz": [gzip.compress(nifti(pixels(24, 30, 1, 3)), mtime=0)],
    }
    for ending, files in valid.items():
        for data in files:
            yield "none", f"a.{ending}", data
            for fault, changed in damaged(data, chance):
                yield fault, f"a.{ending}", changed
    for ending, other in itertools.product(
        ("png", "jpg", "bmp", "tif", "nii", "nii.gz"), ("PNG", "GIF", "WEBP", "ICO")
    ):
        yield f"{other} with another ending", f"a.{ending}", encoded(color, other)
    for size in ((10**5, 10**5), (2**31 - 1, 2**31 - 1), (0, 5), (10**9, 1)):
        yield f"declares {size}", "a.png", png_of_size(*size)
        yield f"declares {size}, 16 bits and alpha", "a.png", png_of_size(*size, depth=16, color=6)
        bmp = bytearray(encoded(color, "BMP"))
        bmp[18:26] = struct.pack("<ii", *size)
        yield f"declares {size}", "a.bmp", bytes(bmp)
    plain = tiff(pixels(24, 30, 3), photometric="rgb")
    for name, value in itertools.product(("ImageWidth", "ImageLength", "RowsPerStrip"), (0, 65535, 2**31)):
        yield f"declares {name} {value}", "a.tif", with_tag(plain, **{name: value})
    for name, value in (
        ("Compression", 9999),
        ("BitsPerSample", (7, 7, 7)),
        ("SamplesPerPixel", 9),
        ("PhotometricInterpretation", 77),
    ):
        yield f"declares {name} {value}", "a.tif", with_tag(plain, **{name: value})
    for shape in ((1500, 1500, 1500), (30000, 30000, 1), (0, 0, 0), (-4, 5, 6), (5,)):
        yield f"declares {shape}", "a.nii.gz", gzip.compress(nifti(pixels(24, 30, 1, 3), shape), mtime=0)
    for kind in (np.complex64, np.float64, np.int32):
        yield f"volume of {kind.__name__}", "a.nii", nifti(pixels(24, 30, 1).astype(kind))
    yield (
        "bomb of zeros",
        "a.nii.gz",
        gzip.compress(nifti(pixels(4, 4, 1), (4000, 4000, 30))[:352] + bytes(10**7), mtime=0),
    )


def masks(chance: random.Random) -> Cases:
    """Yield damaged masks of an image of 30 x 24 px."""
    truth = np.zeros((24, 30), np.uint8)
    truth[4:12, 5:20] = 1
    gray = Image.fromarray(truth * 255)
    smooth = Image.fromarray(np.add.outer(np.arange(24), np.arange(30)).astype(np.uint8) * 4)
    special: dict[str, bytes] = {
        "none": encoded(gray, "PNG"),
        "other size": encoded(gray.resize((29, 24)), "PNG"),
        "transposed": encoded(gray.transpose(Image.Transpose.ROTATE_90), "PNG"),
        "smoothed": encoded(smooth, "PNG"),
        "colors": encoded(Image.fromarray(pixels(24, 30, 3)), "PNG"),
        "transparent": encoded(Image.fromarray(pixels(24, 30, 4), "RGBA"), "PNG"),
        "one bit": encoded(gray.convert("1"), "PNG"),
        "noise": encoded(Image.fromarray(pixels(24, 30)), "PNG"),
    }
    arrays: dict[str, Any] = {
        "fractions": truth / 3,
        "NaN": np.where(truth, np.nan, 0),
        "infinite": np.where(truth, np.inf, 0),
        "out of range": truth.astype(np.int32) * 2**30,
        "negative": -truth.astype(np.int16),
        "unsigned 32 bits": truth.astype(np.uint32) * (2**32 - 1),
        "float of integers": truth.astype(np.float32),
        "half": truth.astype(np.float16) / 3,
        "two channels": np.stack([truth] * 2),
    }
    for fault, data in special.items():
        yield fault, "a_mask.png", data
    for fault, array in arrays.items():
        yield fault, "a_mask.tif", tiff(array)
    yield "smoothed by JPEG", "a_mask.jpg", encoded(gray.resize((60, 48)).resize((30, 24)), "JPEG", quality=20)
    for data, ending in ((encoded(gray, "PNG"), "png"), (tiff(truth), "tif"), (nifti(truth.T[..., None]), "nii")):
        for fault, changed in damaged(data, chance):
            yield fault, f"a_mask.{ending}", changed


# JSON of all kinds

VALUES: tuple[Any, ...] = (None, 3, -1, 1e300, float("nan"), float("inf"), 10**400, True, "", [], {}, [[]], {"a": []})
TEXTS = (
    "..",
    "../a.png",
    "/etc/passwd",
    "C:\\tiles\\a.png",
    "image\\a.png",
    "a\0b",
    "\ud800",
    "n" * 5000,
    "~",
    "$HOME",
    "#",
)


def places(content: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys of all values of a JSON document."""
    if key:
        yield key
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in list(pairs)[:2]:
        yield from places(value, (*key, name))


def replaced(content: Any, key: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a document with another value."""
    changed = copy.deepcopy(content)
    node = changed
    for name in key[:-1]:
        node = node[name]
    node[key[-1]] = value
    return changed


def broken_json(content: Any, texts: tuple[str, ...] = TEXTS) -> Iterator[tuple[str, bytes]]:
    """Yield a document with each value replaced by values of other types, and with broken syntax."""
    for key, value in itertools.product(places(content), (*VALUES, *texts)):
        yield f"{'#'.join(map(str, key))} is {value!r:.30}", json.dumps(replaced(content, key, value)).encode()
    text = json.dumps(content)
    yield "nested deep", DEEP.encode()
    yield "nested deep inside", text.replace("[", DEEP, 1).encode()
    yield "number of 5000 digits", b'{"a": ' + b"9" * 5000 + b"}"
    yield "trailing comma", text[:-1].encode() + b",}"
    yield "UTF-16", text.encode("utf-16")
    yield "byte order mark", b"\xef\xbb\xbf" + text.encode()
    yield "broken UTF-8", text.encode().replace(b'"', b'"\xff', 3)
    yield "first key twice", b"{" + text.encode()[1:-1] + b", " + text.encode()[1:]


def data_lists(chance: random.Random) -> Cases:
    """Yield damaged data lists of two images with masks."""
    entries = [
        {"image": f"image/{name}.png", "label": f"label/{name}.png", "mpp": 0.5, "patient": name} for name in "ab"
    ]
    content = {"labels": {"0": "background", "1": "gland"}, "training": entries[:1], "validation": entries[1:]}
    yield "none", "list.json", json.dumps(content).encode()
    for fault, data in [*broken_json(content), *damaged(json.dumps(content).encode(), chance)]:
        yield fault, "list.json", data


def overlays(chance: random.Random) -> Cases:
    """Yield damaged overlays of train.json."""
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for old, new in itertools.pairwise("abcdefghijk"):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    texts = {
        "none": "max_epochs: 3\n",
        "empty": "",
        "only a comment": "# nothing\n",
        "list": "- 1\n",
        "text": "hello",
        "number": "3",
        "unclosed": "a: [1\nb: {",
        "tab": "a:\n\t- 1",
        "undefined alias": "a: *b",
        "alias bomb": bomb,
        "alias of itself": "a: &a [*a]",
        "brackets": "a: " + "[" * 5000,
        "braces": "a: " + "{a: " * 3000,
        "integer key": "3: 4",
        "null key": "~: 4",
        "key is a list": "[1, 2]: 3",
        "key is a mapping": "{a: 1}: 3",
        "two documents": "a: 1\n---\nb: 2",
        "twice": "seed: 1\nseed: 2",
        "executed tag": f"a: !!python/object/apply:builtins.open [{MARKER}, w]",
        "unknown tag": "a: !mine 3",
        "date": "seed: 2020-13-45",
        "not a number": "max_epochs: .nan",
        "infinite": "learning_rate: .inf",
        "power": "learning_rate: 5e-5",
        "control": "a: \x01",
        "unknown key": "max_epoch: 3",
        "reference to nothing": "network: '@nothing'",
        "reference to itself": "network: '@network'",
        "invalid expression": "device: $torch.device((1",
        "no such class": "network_def#_target_: bundle.networks.No",
        "wrong level": "seed#next: 3",
        "key of signs": "'###': 3",
        "empty key": "'': 3",
        "long": "a: " + "n" * 10**6,
    }
    for fault, text in texts.items():
        yield fault, "overlay.yaml", text.encode()
    for fault, value in (
        ("list", []),
        ("text", "a"),
        ("null", None),
        ("deep", {"a": [[[[]]]]}),
        ("unknown key", {"lr": 1}),
    ):
        yield f"JSON: {fault}", "overlay.json", json.dumps(value).encode()
    for ending, data in (("json", b'{"max_epochs": 3, "batch_size": 2}'), ("yaml", b"max_epochs: 3\nbatch_size: 2\n")):
        for fault, changed in damaged(data, chance):
            yield fault, f"overlay.{ending}", changed
    yield "bytes", "overlay.yaml", bytes(range(256))
    yield "JSON of brackets", "overlay.json", DEEP.encode()


# Files of torch


def saved(content: Any, **options: Any) -> bytes:
    """Return a file of ``torch.save``."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def checkpoints(chance: random.Random) -> Cases:
    """Yield damaged weights of a linear layer of 3 inputs and 2 outputs."""
    state = dict(nn.Linear(3, 2).state_dict())
    weight = state["weight"]
    contents: dict[str, Any] = {
        "none": state,
        "half precision": {name: value.half() for name, value in state.items()},
        "empty": {},
        "list": [weight],
        "tensor": weight,
        "text": "weights",
        "none at all": None,
        "other names": {"a": weight},
        "other shape": state | {"weight": weight.T},
        "missing": {"weight": weight},
        "extra": state | {"more": weight},
        "NaN": state | {"weight": weight * float("nan")},
        "infinite": state | {"bias": torch.tensor([float("inf"), 0])},
        "integer keys": dict(enumerate(state.values())),
        "key None": state | {None: weight},
        "integers": state | {"weight": weight.long()},
        "booleans": state | {"weight": weight > 0},
        "complex": state | {"weight": weight + 0j},
        "sparse": state | {"weight": weight.to_sparse()},
        "meta": state | {"weight": weight.to("meta")},
        "nested": {"model": state},
        "numbers": {"weight": 3.0, "bias": 2},
        "texts": {"weight": "a", "bias": "b"},
        "module prefix": {f"module.{name}": value for name, value in state.items()},
        "resume file": {"network": state, "trainer": {}},
        "expanded to a terabyte": state | {"weight": torch.zeros(1).expand(10**6, 10**6)},
        "no elements": state | {"weight": torch.zeros(0, 3)},
        "scalar": state | {"bias": torch.tensor(1.0)},
        "payload as value": state | {"weight": Payload()},
        "payload": Payload(),
        "payload as key": {"a": [Payload()]},
        "payload of eval": Payload(eval, (f"open({MARKER!r}, 'w')",)),
        "whole network": nn.Linear(3, 2),
    }
    for fault, content in contents.items():
        yield fault, "model.pt", saved(content)
    for fault, changed in damaged(saved(state), chance, flips=12):
        yield fault, "model.pt", changed
    yield "plain pickle with code", "model.pt", pickle.dumps(Payload())
    yield "old format with code", "model.pt", saved(Payload(), _use_new_zipfile_serialization=False)
    yield "old format", "model.pt", saved(state, _use_new_zipfile_serialization=False)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), bytes(10**7), zipfile.ZIP_DEFLATED)
    yield "zip of zeros", "model.pt", file.getvalue()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(3, 2)), file)
    yield "TorchScript", "model.pt", file.getvalue()


def descriptions(chance: random.Random) -> Cases:
    """Yield damaged ``model.json`` files of a U-Net."""
    content = {
        "format": "semi-moe model 1",
        "network_def": {"_target_": "bundle.networks.UNet", "widths": [4, 4, 4, 4, 4], "output_stride": 2},
        "class_target": {"_target_": "bundle.transforms.ForegroundClassd", "keys": "label"},
        "settings": {"classes": 2, "pixel_size": 1.0, "crop_size": [32, 32], "mean": [0.5], "std": [0.5]},
        "weights": {"file": "model.pt", "sha256": "0"},
        "data": {"list": "list.json"},
    }
    yield "none", "model.json", json.dumps(content).encode()
    texts = (*TEXTS, "os.system", "bundle.utils.remove_partials", "$exec('')", "torch.hub.load")
    for fault, data in [*broken_json(content, texts), *damaged(json.dumps(content).encode(), chance)]:
        yield fault, "model.json", data


def resume_items(folder: str) -> tuple[Any, dict[str, Any]]:
    """Return a trainer of 4 epochs of 1 step, and the items that its resume file holds."""
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4)
    trainer: Any = Engine(lambda engine, batch: (network(torch.ones(1, 3)).sum().backward(), optimizer.step()))
    trainer.state.epoch_length, trainer.state.max_epochs, trainer.amp = 1, 4, False
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: schedule.step())
    items = {"network": network, "optimizer": optimizer, "lr_scheduler": schedule}
    items |= {"best_model": BestModel(network, f"{folder}/model.pt")}
    return trainer, items | {"early_stop": EarlyStopping(3, lambda engine: 0.0, trainer)}


def resume_content() -> dict[str, Any]:
    """Return the resume file of such a training after an epoch."""
    trainer, items = resume_items(".")
    trainer.run([0], max_epochs=1)
    kinds = {"network": "Linear", "optimizer": "AdamW"}
    return {
        **{name: item.state_dict() for name, item in items.items()},
        "best_model": {"score": 0.5, "epoch": 1},
        "trainer": {"epoch": 1, "epoch_length": 1, "max_epochs": 4, "kinds": kinds},
        "setting": {"seed": 0, "method": "semi_moe"},
    }


def resume_files(chance: random.Random) -> Cases:
    """Yield resume files with each value replaced, and damaged ones."""
    content = resume_content()
    yield "none", "resume.pt", saved(content)
    values = (None, "many", -1, 10**9, float("nan"), [], {}, torch.zeros(2), True, 1.5)
    keys = [key for key in places(content) if key[0] != "network" or len(key) == 1]
    for key, value in itertools.product(keys, values):
        yield f"{'#'.join(map(str, key))} is {value!r:.30}", "resume.pt", saved(replaced(content, key, value))
    for name in content:
        yield f"lacks {name}", "resume.pt", saved({key: value for key, value in content.items() if key != name})
    for fault, changed in damaged(saved(content), chance):
        yield fault, "resume.pt", changed
    yield "payload", "resume.pt", saved(content | {"setting": Payload()})


# Slides, annotations and journals


def slides(chance: random.Random) -> Cases:
    """Yield damaged tiled pyramids."""
    level = pixels(160, 200, 3)
    shared: dict[str, Any] = {"tile": (32, 48), "photometric": "rgb", "metadata": None}
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(level, compression="zlib", resolution=(20000, 20000), resolutionunit="CENTIMETER", **shared)
        writer.write(level[::2, ::2], compression="zlib", subfiletype=1, **shared)
    pyramid, plain = (
        file.getvalue(),
        tiff(level, photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER"),
    )
    for ending in ("tif", "svs", "ndpi", "mrxs", "scn"):
        yield "none", f"slide.{ending}", pyramid
        for fault, changed in damaged(pyramid, chance, flips=5 if ending == "tif" else 2):
            yield f"{ending}: {fault}", f"slide.{ending}", changed
    values = (0, 1, 65535, 2**31)
    for name, value in itertools.product(("ImageWidth", "ImageLength", "TileWidth", "TileLength"), values):
        yield f"declares {name} {value}", "slide.tif", with_tag(pyramid, **{name: value})
    for name, value in itertools.product(
        ("Compression", "PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration"), (0, 7, 9999)
    ):
        yield f"declares {name} {value}", "slide.tif", with_tag(pyramid, **{name: value})
    for value in ((0, 1), (1, 0), (2**32 - 1, 1), (1, 2**32 - 1)):
        yield f"resolution {value}", "slide.tif", with_tag(plain, XResolution=value, YResolution=value)
    yield "one strip", "slide.tif", plain
    yield "JPEG strips", "slide.tif", encoded(Image.fromarray(level), "TIFF", compression="jpeg")
    yield "gray", "slide.tif", tiff(level[..., 0], tile=(32, 48))
    yield "16 bits", "slide.tif", tiff(level.astype(np.uint16), tile=(32, 48), photometric="rgb")


def ring(points: Any) -> dict[str, Any]:
    """Return a GeoJSON polygon of one ring."""
    return {"type": "Polygon", "coordinates": [points]}


def annotations(chance: random.Random) -> Cases:
    """Yield damaged outlines in GeoJSON, ASAP XML and the JSON of HistomicsUI."""
    square = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
    feature = {"type": "Feature", "geometry": ring(square), "properties": {"classification": {"name": "Gland"}}}
    geojson = {"type": "FeatureCollection", "features": [feature]}
    element = {"type": "polyline", "closed": True, "points": [[*point, 0] for point in square], "group": "Gland"}
    dsa = {"name": "glands", "elements": [element]}
    for content, name in ((geojson, "geojson"), (dsa, "dsa.json")):
        yield "none", f"label.{name}", json.dumps(content).encode()
        for fault, data in broken_json(content, ("", "a\0b", "\ud800")):
            yield fault, f"label.{name}", data
        for fault, data in damaged(json.dumps(content).encode(), chance):
            yield fault, f"label.{name}", data
    noise = [[chance.uniform(0, 1000), chance.uniform(0, 1000)] for _ in range(800)]
    geometries: dict[str, Any] = {
        "crosses itself everywhere": ring(noise),
        "retraces itself": ring(square * 1000),
        "bow tie": ring([[0, 0], [9, 9], [9, 0], [0, 9]]),
        "two points": ring([[0, 0], [9, 9]]),
        "one place": ring([[3, 3]] * 9),
        "a line": ring([[0, 0], [5, 0], [9, 0]]),
        "no ring": ring([]),
        "huge": ring([[0, 0], [1e308, 0], [1e308, 1e308]]),
        "huge integers": ring([[0, 0], [10**400, 0], [0, 9]]),
        "NaN": ring([[0, 0], [float("nan"), 0], [9, 9]]),
        "tiny": ring([[0, 0], [1e-300, 0], [0, 1e-300]]),
        "four numbers": ring([[1, 2, 3, 4]] * 5),
        "Point": {"type": "Point", "coordinates": [1, 2]},
        "LineString": {"type": "LineString", "coordinates": square},
        "MultiPoint": {"type": "MultiPoint", "coordinates": square},
        "collection": {"type": "GeometryCollection", "geometries": [ring(square)]},
        "MultiPolygon": {"type": "MultiPolygon", "coordinates": [[square], [square]]},
        "unknown": {"type": "Circle", "coordinates": [1]},
    }
    for fault, geometry in geometries.items():
        features = [feature, feature | {"geometry": geometry}]
        yield f"geometry: {fault}", "label.geojson", json.dumps(geojson | {"features": features}).encode()
    yield from ((fault, "label.xml", data) for fault, data in xml_cases(chance))


def xml_cases(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield ASAP XML files."""

    def asap(x: object = 9, kind: str = "Polygon", head: str = "", text: str = "Gland") -> str:
        points = "".join(
            f'<Coordinate Order="{n}" X="{a}" Y="{b}"/>' for n, (a, b) in enumerate(((0, 0), (x, 0), (x, 9), (0, 9)))
        )
        outline = f'<Annotation Name="{text}" Type="{kind}" PartOfGroup="{text}"><Coordinates>{points}</Coordinates>'
        outline += "</Annotation>"
        return f'<?xml version="1.0"?>{head}<ASAP_Annotations><Annotations>{outline}</Annotations></ASAP_Annotations>'

    laughs = '<!ENTITY a "lol">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in itertools.pairwise("abcdefghij")
    )
    texts = {
        "entity bomb": asap(head=f"<!DOCTYPE x [{laughs}]>", text="&j;"),
        "quadratic bomb": asap(head=f'<!DOCTYPE x [<!ENTITY a "{"n" * 50_000}">]>', text="&a;" * 2000),
        "file entity": asap(head='<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', text="&a;"),
        "network entity": asap(head='<!DOCTYPE x SYSTEM "http://127.0.0.1:9/a.dtd">'),
        "parameter entity": asap(head='<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>'),
        "nested deep": "<a>" * 50_000,
        "no outline": "<ASAP_Annotations/>",
        "other root": "<svg/>",
        "undefined entity": asap(text="&no;"),
        **{
            f"X is {value}": asap(value)
            for value in ("NaN", "inf", "1e308", "1e400", "", "a", "9" * 5000, "-0", "0x10", "one")
        },
        **{f"type {kind}": asap(kind=kind) for kind in ("Dot", "PointSet", "Spline", "Rectangle", "No", "")},
    }
    yield "none", asap().encode()
    for fault, text in texts.items():
        yield fault, text.encode()
    for encoding in ("utf-16", "utf-7", "ebcdic-cp-be", "no-such"):
        yield f"encoding {encoding}", asap().replace('"1.0"', f'"1.0" encoding="{encoding}"').encode()
    for fault, data in damaged(asap().encode(), chance):
        yield fault, data


def journals(chance: random.Random) -> Cases:
    """Yield damaged inference logs."""
    records = [{"settings": {"mpp": 1}}, {"begun": "a.png", "files": ["a.png"]}]
    records += [{"image": "a.png", "state": [1, 2], "files": ["a_mask.png"]}]
    for record in records:
        for fault, line in broken_json(record, TEXTS):
            lines = [line.decode("latin-1") if other is record else json.dumps(other) for other in records]
            if len(line) < 10_000:
                yield f"{next(iter(record))}: {fault}", "journal_0.jsonl", "\n".join(lines).encode("latin-1")
    for fault, data in damaged("\n".join(map(json.dumps, records)).encode(), chance):
        yield fault, "journal_0.jsonl", data


def sample(cases: list[Case], share: int) -> list[Case]:
    """Return every ``share``-th case of each kind, from its first."""
    groups = itertools.groupby(cases, key=lambda case: case.kind)
    return [case for _, group in groups for case in list(group)[::share]]
