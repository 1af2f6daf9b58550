from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make test-label")

from lib.datastore import HISTORY, INDEX, TileDatastore
from lib.request_errors import RefusalError

from tests.dicom_slides import write_dicom

XML = """<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="{name}" Type="Polygon" PartOfGroup="{name}" Color="#00ff00"><Coordinates>
<Coordinate Order="0" X="1" Y="1"/><Coordinate Order="1" X="9" Y="1"/><Coordinate Order="2" X="9" Y="7"/>
</Coordinates></Annotation></Annotations></ASAP_Annotations>"""


def picture(path: Path, size: tuple[int, int] = (32, 24), value: int = 200) -> Path:
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (32, 24), value: int = 1) -> Path:
    array = np.zeros((size[1], size[0]), np.uint8)
    array[2:9, 3:20] = value
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> TileDatastore:
    folder = tmp_path / "studies"
    folder.mkdir()
    picture(folder / "one.png")
    picture(folder / "two.v1.PNG")
    (folder / "notes.xml").write_text("<a/>", encoding="utf-8")
    return TileDatastore(str(folder), ["Gland"])


def folder_of(store: TileDatastore) -> Path:
    return Path(store._datastore_path)


def kept(store: TileDatastore, tag: str = "final") -> list[Path]:
    return sorted((folder_of(store) / HISTORY / tag).glob("*"))


def test_pictures_are_listed_in_any_letters_and_outlines_are_no_images(store: TileDatastore) -> None:
    assert sorted(store.list_images()) == ["one", "two.v1"]
    assert store.get_image_uri("two.v1").endswith("two.v1.PNG")


def test_the_dicom_files_of_a_series_are_one_image(
    store: TileDatastore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, pixels = folder_of(store), np.full((96, 64, 3), 200, np.uint8)
    for name, side, series in (("b.dcm", 1, "1.2.3"), ("c.DCM", 2, "1.2.3"), ("other.dcm", 1, "1.2.4")):
        write_dicom(folder / name, pixels[::side, ::side], series, 0.5 * side)
    (folder / "radiology.dcm").write_bytes(bytes(128) + b"DICM")
    for _ in range(2):
        store.refresh()
        assert sorted(store.list_images()) == ["b", "one", "other", "two.v1"]
    assert caplog.text.count("radiology.dcm is left out: it is no slide that OpenSlide can open") == 1
    write_dicom(folder / "a.dcm", pixels[::4, ::4], "1.2.3", 2.0)
    store.refresh()
    assert sorted(store.list_images()) == ["b", "one", "other", "two.v1"], "the name of an image does not change"
    upload = write_dicom(tmp_path / "tmp1.dcm", pixels, "1.2.5")
    with pytest.raises(RefusalError, match="up is DICOM; copy all files of the slide into the folder of images"):
        store.add_image("up", str(upload), {})
    store.remove_image("b")
    assert sorted(store.list_images()) == ["one", "other", "two.v1"]
    assert [path.name[0] for path in kept(store, "images")] == ["a", "b", "c"]


def test_an_image_is_taken_in_and_the_same_again_changes_nothing(store: TileDatastore, tmp_path: Path) -> None:
    upload = picture(tmp_path / "tmp1.png", value=90)
    assert store.add_image("three", str(upload), {"mpp": 0.5}) == "three"
    store.save_label("three", str(mask(tmp_path / "m.png")), "final", {})
    assert store.add_image("three", str(upload), {}) == "three"
    assert store.get_labeled_images() == ["three"]
    assert store.get_image_info("three")["mpp"] == 0.5


def test_another_image_of_the_same_name_is_refused_and_labels_stay(store: TileDatastore, tmp_path: Path) -> None:
    store.save_label("one", str(mask(tmp_path / "m.png")), "final", {})
    with pytest.raises(RefusalError, match="there is another image one") as refusal:
        store.add_image("one", str(picture(tmp_path / "tmp.png", value=3)), {})
    assert refusal.value.status_code == 409
    assert store.get_labeled_images() == ["one"]


@pytest.mark.parametrize(
    "name", ["../out", "/etc/out", "a/b", "..", ".hidden", "a\\b", "a\x00b", " a", "x" * 201, "c:out", "a..b"]
)
def test_names_cannot_leave_the_folder(store: TileDatastore, tmp_path: Path, name: str) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    upload = picture(tmp_path / "tmp.png")
    with pytest.raises(RefusalError, match="is not a valid image name") as refusal:
        store.add_image(name, str(upload), {})
    assert refusal.value.status_code == 400
    upload.unlink()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("tag", ["../../out", "a/b", "..", "", "a b"])
def test_tags_cannot_leave_the_folder(store: TileDatastore, tmp_path: Path, tag: str) -> None:
    with pytest.raises(RefusalError, match="is not a valid label tag"):
        store.save_label("one", str(mask(tmp_path / "m.png")), tag, {})


def bomb(path: Path) -> Path:
    """A PNG of a few kB that declares 40,000 x 40,000 px."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_what_is_no_picture_is_truncated_or_a_bomb_is_refused(store: TileDatastore, tmp_path: Path) -> None:
    text = tmp_path / "a.png"
    text.write_text("no picture", encoding="utf-8")
    whole = picture(tmp_path / "whole.png", (200, 200)).read_bytes()
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: len(whole) // 2])
    program = tmp_path / "a.exe"
    program.write_bytes(whole)
    for path, status in ((text, 422), (cut, 422), (bomb(tmp_path / "bomb.png"), 422), (program, 422)):
        with pytest.raises(RefusalError, match="new") as refusal:
            store.add_image("new", str(path), {})
        assert refusal.value.status_code == status
        assert str(tmp_path) not in str(refusal.value)
    assert "new" not in store.list_images()


def test_a_label_that_is_replaced_or_removed_moves_to_history(store: TileDatastore, tmp_path: Path) -> None:
    first = mask(tmp_path / "first.png", value=1)
    second = mask(tmp_path / "second.png", value=255)
    outlines = tmp_path / "third.xml"
    outlines.write_text(XML.format(name="Gland"), encoding="utf-8")
    for label in (first, second, outlines):
        store.save_label("one", str(label), "final", {})
    assert [path.read_bytes() for path in kept(store)] == [first.read_bytes(), second.read_bytes()]
    labels = folder_of(store) / "labels" / "final"
    assert [path.name for path in labels.iterdir()] == ["one.xml"]
    store.remove_label("one", "final")
    assert store.get_labeled_images() == []
    assert outlines.read_bytes() in [path.read_bytes() for path in kept(store)]


def test_an_image_that_is_removed_moves_to_history_with_its_labels(store: TileDatastore, tmp_path: Path) -> None:
    store.save_label("one", str(mask(tmp_path / "m.png")), "final", {})
    store.remove_image("one")
    assert store.list_images() == ["two.v1"]
    assert len(kept(store)) == 1
    assert [path.name[:4] for path in kept(store, "images")] == ["one_"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.png", "size", "the label of one has 24 x 32 px, but the image 32 x 24 px"),
        ("m.xml", "<ASAP_Annotations><Annotations>", "the label of one cannot be read"),
        ("m.xml", XML.format(name="Vessel"), "an outline called 'Vessel'; use Gland, or Region"),
        (
            "m.xml",
            XML.format(name="Gland").replace('X="', 'X="90'),
            "an outline at 901, 1, outside the image of 32 x 24 px",
        ),
        ("m.geojson", '{"type": "FeatureCollection", "features": [{}]}', "the label of one cannot be read"),
        ("m.nii.gz", "x", "the label of one has the extension .gz"),
        ("m.png", "x", "the label of one is not a readable PNG, JPEG, BMP or TIFF"),
    ],
)
def test_labels_that_training_could_not_read_are_refused(
    store: TileDatastore, tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    path = tmp_path / name
    if content == "size":
        mask(path, (24, 32))
    else:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(RefusalError) as refusal:
        store.save_label("one", str(path), "final", {})
    assert refusal.value.status_code == 422
    assert sentence in str(refusal.value)
    assert store.get_labeled_images() == []


def test_outlines_of_regions_and_without_a_class_are_welcome(store: TileDatastore, tmp_path: Path) -> None:
    for name in ("gland", "Region", "None"):
        path = tmp_path / "m.xml"
        path.write_text(XML.format(name=name), encoding="utf-8")
        store.save_label("one", str(path), "final", {})
    assert store.get_labeled_images() == ["one"]


def test_a_change_of_another_process_is_not_undone(store: TileDatastore, tmp_path: Path) -> None:
    other = TileDatastore(str(folder_of(store)), ["Gland"])
    other.save_label("one", str(mask(tmp_path / "m.png")), "final", {})
    store.update_image_info("two.v1", {"note": 1})
    third = TileDatastore(str(folder_of(store)), ["Gland"])
    assert third.get_labeled_images() == ["one"]
    assert third.get_image_info("two.v1")["note"] == 1
    other.save_label("two.v1", str(mask(tmp_path / "m.png")), "original", {"model": "a"})
    with pytest.raises(RefusalError, match="there is no label final"):
        store.remove_label("two.v1", "final")  # reads the change, and is refused
    store.update_image_info("one", {"note": 2})
    index = json.loads((folder_of(store) / INDEX).read_text(encoding="utf-8"))["objects"]
    assert index["two.v1"]["labels"]["original"]["info"]["model"] == "a"
    assert index["one"]["image"]["info"]["note"] == 2


def test_what_killed_servers_left_is_removed_by_the_next(store: TileDatastore, tmp_path: Path) -> None:
    store.save_label("one", str(mask(tmp_path / "m.png")), "final", {})
    folder = Path(store._datastore_path)
    final = folder / "labels" / "final"
    halves = [folder / ".datastore_v2.json.0a1b2c3d.partial", final / ".one.png.0a1b2c3d.partial"]
    for path in (*halves, folder / ".hidden"):
        path.write_bytes(b"half")
    assert TileDatastore(str(folder), ["Gland"]).get_labeled_images() == ["one"]
    assert [path for path in halves if path.exists()] == []
    assert (folder / ".hidden").is_file()


def test_a_damaged_index_is_set_aside_and_made_anew_with_all_labels(store: TileDatastore, tmp_path: Path) -> None:
    store.save_label("one", str(mask(tmp_path / "m.png")), "final", {})
    index = folder_of(store) / INDEX
    index.write_text(index.read_text(encoding="utf-8")[:40], encoding="utf-8")
    repeated = TileDatastore(str(folder_of(store)), ["Gland"])
    assert repeated.get_labeled_images() == ["one"]
    assert len(list(folder_of(store).glob(f"{INDEX}.damaged-*"))) == 1
    assert json.loads(index.read_text(encoding="utf-8"))["objects"]["one"]["labels"]


@pytest.mark.parametrize("call", ["save_label", "remove_label", "remove_image", "update_image_info"])
def test_an_image_that_is_not_there_is_said(store: TileDatastore, tmp_path: Path, call: str) -> None:
    arguments = {
        "save_label": ("none", str(mask(tmp_path / "m.png")), "final", {}),
        "remove_label": ("none", "final"),
        "remove_image": ("none",),
        "update_image_info": ("none", {}),
    }[call]
    with pytest.raises(RefusalError, match="there is no") as refusal:
        getattr(store, call)(*arguments)
    assert refusal.value.status_code == 404
