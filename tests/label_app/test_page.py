"""The labeling page: its build, its requests, and its use in Chromium with a real server."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from lib.annotation import Annotation, draw_instances, write_asap
from PIL import Image

from bundle.data import read_image, read_label
from bundle.inference.polygons import outlines
from bundle.slides import open_slide
from tests.dicom_slides import write_dicom

pytest_plugins = ["tests.label_app.served"]

PAGE = Path(__file__).resolve().parents[2] / "scripts" / "label_app" / "page"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT, SOON = 300_000, 180_000
"""Milliseconds that a training, and any other answer (`SOON`), may take on a machine that has much else to do."""
DESKTOP, TABLET = {"width": 1280, "height": 800}, {"width": 820, "height": 1180}
NAMES = ("oblong_1", "square_1", "square_2", "square_3")
TRACED = 0.85
"""Smallest overlap of a gland and its outline, drawn along its border with a pointer of whole px of the screen."""

Tiles = Mapping[str, tuple[Path, Path]]
Studies = Callable[..., Path]


def test_the_committed_build_is_that_of_the_sources() -> None:
    """The committed build is that of the present sources (`make label-page`)."""
    sources = [*(f"src/{path.name}" for path in (PAGE / "src").iterdir()), "package-lock.json", "build.mjs"]
    digest = hashlib.sha256(b"".join((PAGE / name).read_bytes() for name in sorted(sources))).hexdigest()
    assert f"Sources: {digest} " in (PAGE / "dist" / "page.js").read_text(encoding="utf-8")[:200]
    for name in ("index.html", "page.css"):
        assert (PAGE / "dist" / name).read_bytes() == (PAGE / "src" / name).read_bytes()


def test_every_library_in_the_build_has_its_license_and_a_fixed_version() -> None:
    libraries = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    licenses = (PAGE / "dist" / "LICENSES.txt").read_text(encoding="utf-8")
    assert libraries
    for name, version in libraries.items():
        assert locked[f"node_modules/{name}"]["version"] == version
        assert re.search(rf"^{re.escape(name)} {re.escape(version)} \([\w.-]+\)$", licenses, re.MULTILINE)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for name in ("index.html", "page.css"):
        assert not re.search(r"https?:|//\w", (PAGE / "dist" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def studies(make_studies: Studies, slide_file: Path) -> Path:
    """Tiles, a slide, and the same slide in DICOM."""
    folder = make_studies(*NAMES)
    shutil.copy(slide_file, folder / "slide.tif")
    with open_slide(slide_file) as slide:
        for number, level in enumerate(slide.levels):
            pixels = slide.read(number, 0, 0, *level.size)
            write_dicom(folder / f"scan_{number}.dcm", pixels, "1.2.3", level.downsample)
    return folder


@pytest.fixture(scope="module")
def eager_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a model that predicts gland everywhere, so that there is always an outline to correct."""
    root = tmp_path_factory.mktemp("eager") / "bundle"
    shutil.copytree(tiny_bundle, root)
    path = root / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    weights["tasks.seg.head.bias"] = torch.tensor([-20.0, 20.0])
    torch.save(weights, path)
    return root


@pytest.fixture(scope="module")
def start(start_server: Callable[..., Any], eager_bundle: Path, program: list[str]) -> Callable[..., Any]:
    """Return a function that starts the app on a folder, optionally at a given port."""
    pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
    return lambda folder, port=None: start_server(None, folder, {"bundle": eager_bundle}, program=program, port=port)


@pytest.fixture(scope="module")
def server(start: Callable[..., Any], studies: Path) -> Any:
    return start(studies)


@pytest.fixture
def ask(server: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    return connect(server.url)


# Requests of the page.


def test_tiles_of_the_last_zoom_level_are_the_picture(ask: Callable[..., Any], tiles: Tiles, slide_file: Path) -> None:
    with open_slide(slide_file) as slide:
        levels = [slide.read(number, 0, 0, *level.size) for number, level in enumerate(slide.levels)]
    tile = Image.fromarray(read_image(tiles["oblong_1"][0]).pixels)
    halved = tile.resize((tile.width // 2, tile.height // 2), Image.Resampling.BOX)
    assert "scan_1" not in ask("GET", "/datastore/?output=all").json()["objects"], "a level is no image of its own"
    shown_as = (("oblong_1", np.asarray(tile), np.asarray(halved)), ("slide", *levels), ("scan_0", *levels))
    for name, pixels, half in shown_as:
        facts = ask("GET", f"/view/image?image={name}").json()
        assert (facts["height"], facts["width"]) == pixels.shape[:2]
        assert (facts["slide"], facts["mpp"]) == ((False, None) if name == "oblong_1" else (True, 1.0))
        for expected, level in ((pixels, facts["deepest"]), (half, facts["deepest"] - 1)):
            shown = _stitched(ask, name, facts, level)
            assert shown.shape == expected.shape
            error, of_neighbor = (np.abs(np.roll(shown, by, 1).astype(int) - expected).mean() for by in (0, 1))
            assert error < min(6, of_neighbor / 2)  # JPEG of a grained image


def _stitched(ask: Callable[..., Any], name: str, facts: Mapping[str, Any], level: int) -> np.ndarray:
    """All tiles of a zoom level side by side."""
    scale = 2 ** (facts["deepest"] - level)
    counts = [math.ceil(facts[side] / scale / facts["side"]) for side in ("height", "width")]
    rows = []
    for y in range(counts[0]):
        answers = [ask("GET", f"/view/tile?image={name}&level={level}&x={x}&y={y}") for x in range(counts[1])]
        rows.append(np.hstack([np.asarray(Image.open(io.BytesIO(response.content))) for response in answers]))
    return np.vstack(rows)


def test_a_dicom_slide_is_predicted(ask: Callable[..., Any]) -> None:
    body = {"output": "geojson", "location": [32, 48], "size": [96, 64]}
    files = {"params": (None, json.dumps(body))}
    (feature,) = ask("POST", "/infer/semi_moe?image=scan_0&output=image", files=files).json()["features"]
    assert shapely.geometry.shape(feature["geometry"]).bounds == pytest.approx((32, 48, 128, 112), abs=1)


@pytest.mark.parametrize("where", ["level=99&x=0&y=0", "level=7&x=9&y=0", "level=7&x=0&y=-1", "level=-1&x=0&y=0"])
def test_a_tile_that_does_not_exist_is_refused(ask: Callable[..., Any], where: str) -> None:
    assert "there is no tile" in ask("GET", f"/view/tile?image=square_1&{where}", 404).json()["detail"]


def test_an_image_that_does_not_exist_is_refused(ask: Callable[..., Any]) -> None:
    for path in ("/view/image?image=", "/view/tile?level=0&x=0&y=0&image=", "/view/label?image="):
        for name in ("nothing", "../secret"):
            assert "there is no image" in ask("GET", path + name, 404).json()["detail"]
    assert "not a valid label tag" in ask("GET", "/view/label?image=square_1&tag=../final", 400).json()["detail"]
    for name in ("package.json", "..%2Fpackage.json", "%2e%2e/%2e%2e/main.py"):
        ask("GET", f"/page/{name}", 404)


def test_a_label_of_any_format_is_shown_as_outlines(ask: Callable[..., Any], tiles: Tiles, tmp_path: Path) -> None:
    truth = read_label(tiles["square_3"][1]).pixels > 0
    mask, drawn = tmp_path / "mask.png", tmp_path / "drawn.xml"
    Image.fromarray(truth.astype(np.uint8)).save(mask)
    write_asap(drawn, [Annotation("Gland", item.shape) for item in outlines(truth)], {"Gland": (0, 255, 0)}, "square_3")
    versions = {ask("GET", "/view/label?image=square_3").json()["version"]}
    for path in (mask, drawn):
        ask("PUT", "/datastore/label?image=square_3&tag=final", files={"label": (path.name, path.read_bytes())})
        label = ask("GET", "/view/label?image=square_3").json()
        assert _overlap(label, truth) > 0.95
        versions.add(label["version"])
    assert len(versions) == 3
    ask("DELETE", "/datastore/label?id=square_3&tag=final")
    assert ask("GET", "/view/label?image=square_3").json()["features"] == []


def test_a_label_replaces_only_the_one_that_its_annotator_saw(ask: Callable[..., Any]) -> None:
    def save(side: int, status: int = 200, **params: str) -> Any:
        ring = [[0, 0], [side, 0], [side, side], [0, side], [0, 0]]
        shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        text = json.dumps({"type": "FeatureCollection", "features": [shape]})
        files, data = {"label": ("a.geojson", text)}, {"params": json.dumps(params)}
        return ask("PUT", "/datastore/label?image=square_3&tag=final", status, files=files, data=data).json()

    first = save(10, replaces="")["version"]
    assert "somebody else has saved" in save(20, 409, replaces="")["detail"]
    second = save(20, replaces=first)["version"]
    assert second != first
    assert "somebody else has saved" in save(30, 409, replaces=first)["detail"]
    assert ask("GET", "/view/label?image=square_3").json()["version"] == second
    save(30)  # other viewers do not say what they saw
    ask("DELETE", "/datastore/label?id=square_3&tag=final")


def _overlap(collection: Mapping[str, Any], truth: np.ndarray) -> float:
    """Intersection over union of outlines and glands."""
    shapes = [Annotation("Gland", shapely.geometry.shape(item["geometry"])) for item in collection["features"]]
    mask = draw_instances(shapes, truth.shape[::-1]) > 0
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


# People who work with the page.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed here: make test-label")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser here ({', '.join(BROWSERS)}); on Debian: apt-get install chromium")
    with playwright.sync_playwright() as started:
        # Chromium's sandbox cannot be used as root, as in containers.
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Person:
    """A user with the page open in a separate browser; errors of the page fail the test."""

    def __init__(self, browser: Any, url: str, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, **settings})
        self.context.set_default_timeout(SOON)
        self.url, self.errors = url, []
        self.page: Any = None

    def open(self, image: str) -> Person:
        """Open the page in a new tab, at an image."""
        if self.page:
            self.page.close()
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(f"{self.url}/#{image}")
        self.shows(image)
        return self

    def _hear(self, message: Any) -> None:
        """Record an error that the page reports; a failed request is not one."""
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def shows(self, image: str) -> None:
        """Wait until an image is open, and its pixels are shown."""
        self.page.wait_for_function("name => document.querySelector('#name').textContent === name", arg=image)
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('#viewer canvas:not(.outlines)')].some(canvas => {
                const middle = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
                return middle[3] > 0;
            })"""
        )

    def says(self, part: str, where: str = "#message") -> str:
        """Wait until the page shows this text, and return its whole text."""
        self.page.wait_for_function(
            "([where, part]) => document.querySelector(where).textContent.includes(part)", arg=[where, part]
        )
        return self.text(where)

    def text(self, where: str) -> str:
        return self.page.locator(where).text_content()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def drag(self, points: np.ndarray, size: tuple[int, int]) -> None:
        """Draw along points, px of an image of this height and width, which is shown whole."""
        positions = self.places(points, size)
        self.page.mouse.move(*positions[0])
        self.page.mouse.down()
        for position in positions[1:]:
            self.page.mouse.move(*position)
        self.page.mouse.up()

    def places(self, points: np.ndarray, size: tuple[int, int]) -> list[list[float]]:
        """Return the positions of image points in the window."""
        self.press("0")
        time.sleep(0.5)  # the image glides to its place
        box = self.page.locator("#viewer").bounding_box()
        zoom = min(box["width"] / size[1], box["height"] / size[0])
        corner = [box["x"] + (box["width"] - zoom * size[1]) / 2, box["y"] + (box["height"] - zoom * size[0]) / 2]
        return (np.asarray(points) * zoom + corner).tolist()

    def outline(self, truth: np.ndarray) -> int:
        """Draw all glands of a mask along their borders; return their number."""
        self.press("o")
        glands = [item.shape for item in outlines(truth.astype(np.int32)) if item.shape.area > 20]
        for gland in glands:
            for polygon in shapely.get_parts(gland):
                self.drag(shapely.get_coordinates(polygon.exterior), truth.shape)
        return sum(len(shapely.get_parts(gland)) for gland in glands)

    def draft(self) -> list[Any]:
        """Outlines of all drafts in the browser."""
        drafts = self.page.evaluate("Object.values(localStorage)")
        return [shape for draft in drafts for shape in json.loads(draft)["shapes"]]

    def leave(self) -> None:
        self.context.close()
        assert self.errors == []


@pytest.fixture
def person(browser: Any) -> Iterator[Callable[..., Person]]:
    """Return a function that opens the page of a server in a new browser."""
    people: list[Person] = []

    def enter(server: Any, image: str, **settings: Any) -> Person:
        people.append(Person(browser, server.url, **settings))
        return people[-1].open(image)

    yield enter
    for item in people:
        item.leave()


def test_outline_save_train_predict_correct_and_next(
    start: Callable[..., Any],
    make_studies: Studies,
    connect: Callable[..., Any],
    person: Callable[..., Person],
    tiles: Tiles,
) -> None:
    server = start(make_studies(*NAMES))
    ask = connect(server.url)
    me = person(server, "oblong_1")
    for name in ("oblong_1", "square_1"):
        truth = read_label(tiles[name][1]).pixels > 0
        if name != "oblong_1":
            me.page.locator(f"[data-image={name}]").click()
            me.shows(name)
        assert "no label yet" in me.text("#outlines")
        me.outline(truth)
        me.says("draft, not saved", f"[data-image={name}] .state")
        me.press("s")
        me.says(f"of {name}.")
        assert _overlap(ask("GET", f"/view/label?image={name}").json(), truth) > TRACED
        me.page.locator(f"[data-image={name}][data-state=labeled]").wait_for()
        assert me.draft() == []

    me.page.locator("#epochs").fill("3")
    assert not me.page.locator("#schedule").is_visible()
    for wrong in ("0", "20000"):
        me.page.evaluate("document.querySelector('#message').textContent = ''")
        me.page.locator("#minutes").fill(wrong)
        me.page.locator("#train").click()
        me.says("must be a number above 0 and at most 10080")
    me.page.locator("#minutes").fill("600")
    assert me.page.locator("#schedule").is_visible()
    with me.page.expect_request(lambda request: "/train/" in request.url and request.method == "POST") as sent:
        me.page.locator("#train").click()
    assert sent.value.post_data_json == {"max_epochs": 3, "minutes": 600}
    me.page.locator("#progress").wait_for()
    me.page.wait_for_function("() => document.querySelector('#decision').textContent !== ''", timeout=WAIT)
    state = ask("GET", "/info/").json()["train_stats"]["semi_moe"]
    assert state["state"] == "done", state
    assert (state["labeled"], state["validation"], state["unlabeled"]) == (1, 1, 2)
    assert f"Dice {state['before']:.3f} before, {state['after']:.3f} after" in me.text("#decision")
    assert ("new model is used" in me.text("#decision")) is state["taken"]
    assert "1 labeled, 2 unlabeled, 1 for validation" in me.text("#training")

    offered = me.page.locator("#strategy option").all_text_contents()
    assert offered == ["disagreement", "diverse", "random", "first"]
    for strategy, names in (("first", ["square_2"]), ("diverse", ["square_2", "square_3"])):
        me.page.locator("#strategy").select_option(strategy)
        with me.page.expect_response(lambda response: "/activelearning/" in response.url) as suggested:
            me.page.locator("#next").click()
        assert suggested.value.url.endswith(f"/activelearning/{strategy}")
        name = suggested.value.json()["id"]
        assert name in names
        me.shows(name)
    me.press("Shift+P")
    me.says("predicted and not accepted", "#outlines")
    me.page.locator("#reject").click()
    me.page.wait_for_function("() => document.querySelector('#outlines').textContent.startsWith('0 outlines')")
    assert not me.page.locator("#reject").is_enabled()
    me.press("Shift+P")
    me.says("predicted and not accepted", "#outlines")
    assert me.draft() == []  # predictions are not work of a person
    me.press("e")
    me.drag(np.array([[40.0, 48.0], [56.0, 48.0]]), (96, 96))
    me.press("a")
    me.page.wait_for_function("() => !document.querySelector('#outlines').textContent.includes('predicted')")
    me.press("s")
    me.says(f"of {name}.")
    label = ask("GET", f"/view/label?image={name}").json()
    predicted = ask("POST", f"/infer/semi_moe?image={name}&output=image", files={"params": (None, "{}")})
    corrected = np.asarray(Image.open(io.BytesIO(predicted.content))) > 0
    assert corrected[48, 40:57].all(), "the model takes everything for gland"
    shapes = [shapely.geometry.shape(item["geometry"]) for item in label["features"]]
    assert not any(shape.intersects(shapely.LineString([[40, 48], [56, 48]])) for shape in shapes)
    assert _overlap(label, corrected) > 0.8


def test_two_people_do_not_replace_each_other_unseen(
    server: Any, ask: Callable[..., Any], person: Callable[..., Person], studies: Path
) -> None:
    mine, yours = (
        np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]]),
        np.array([[50.0, 50], [90, 50], [90, 90], [50, 90]]),
    )
    first, second = person(server, "square_2"), person(server, "square_2")

    def saved() -> list[float]:
        return [shapely.geometry.shape(item["geometry"]).centroid.x for item in label()["features"]]

    def label() -> Any:
        return ask("GET", "/view/label?image=square_2").json()

    for item, corners in ((first, mine), (second, yours)):
        item.press("o")
        for position in item.places(corners, (96, 96)):
            item.page.mouse.click(*position)
            time.sleep(0.5)  # two fast clicks are a double-click, which closes the outline
        item.press("Enter")
        assert len(item.draft()) == 1
    first.press("s")
    first.says("Saved 1 outline")
    assert saved() == [pytest.approx(20, abs=1)]

    second.press("s")
    second.says("omebody else has saved", "#conflict p")
    assert saved() == [pytest.approx(20, abs=1)]
    second.page.get_by_role("button", name="Load their label").click()
    second.says("1 outline (saved)", "#outlines")
    second.press("z")
    second.says("not saved", "#outlines")
    second.press("s")
    second.says("Saved 1 outline")
    assert saved() == [pytest.approx(70, abs=1)]
    assert len(list((studies / "history" / "final").glob("square_2_*"))) == 1

    first.press("h")
    first.drag(np.array([[15.0, 15], [25, 15], [25, 25], [15, 25]]), (96, 96))
    first.press("s")
    first.page.get_by_role("button", name="Replace it by mine").click()
    first.says("Saved 1 outline")
    (feature,) = label()["features"]
    assert len(feature["geometry"]["coordinates"]) == 2
    assert shapely.geometry.shape(feature["geometry"]).area == pytest.approx(400 - 100, abs=30)
    assert len(list((studies / "history" / "final").glob("square_2_*"))) == 2


def test_nothing_is_lost_when_the_server_is_killed(
    start: Callable[..., Any],
    make_studies: Studies,
    connect: Callable[..., Any],
    person: Callable[..., Person],
) -> None:
    folder = make_studies("square_1", "square_2")
    server = start(folder)
    me = person(server, "square_1")
    me.press("b")
    me.drag(np.array([[20.0, 20], [40, 20]]), (96, 96))
    server.stop()
    me.page.locator("#gone").wait_for()
    assert "does not answer" in me.text("#gone")
    me.drag(np.array([[20.0, 70], [40, 70]]), (96, 96))
    me.press("s")
    time.sleep(1)
    assert "2 outlines (not saved)" in me.text("#outlines")
    assert len(me.draft()) == 2

    repeated = start(folder, int(server.url.rpartition(":")[2]))
    me.page.locator("#gone").wait_for(state="hidden")
    assert "2 outlines (not saved)" in me.text("#outlines")
    me.open("square_1")  # a new tab: only what the browser keeps is left
    me.says("draft of square_1 is open")
    assert "2 outlines (not saved)" in me.text("#outlines")
    me.press("s")
    me.says("Saved 2 outlines")
    assert len(connect(repeated.url)("GET", "/view/label?image=square_1").json()["features"]) == 2
    assert me.draft() == []


def test_undo_redo_and_an_outline_that_is_not_closed(server: Any, person: Callable[..., Person]) -> None:
    me = person(server, "oblong_1")
    me.press("o")
    for position in me.places(np.array([[20.0, 20], [40, 20], [40, 40]]), (64, 112)):
        me.page.mouse.click(*position)
        time.sleep(0.5)
    me.open("oblong_1")  # the corners are kept, too
    me.says("draft of oblong_1 is open")
    me.press("Enter")
    me.says("1 outline (not saved)", "#outlines")
    me.press("b")
    me.drag(np.array([[80.0, 20], [90, 20]]), (64, 112))
    me.says("2 outlines", "#outlines")
    me.press("z", "z")
    me.says("0 outlines", "#outlines")
    me.press("Shift+Z")
    me.says("1 outline (", "#outlines")
    me.press("v")
    me.page.mouse.click(*me.places(np.array([[36.0, 24.0]]), (64, 112))[0])
    me.press("Delete")
    me.says("0 outlines", "#outlines")


def test_fields_and_classes_of_a_slide(server: Any, ask: Callable[..., Any], person: Callable[..., Person]) -> None:
    me, size = person(server, "slide"), (256, 224)

    def saved() -> dict[str, list[Any]]:
        """Save the label; return its shapes by class."""
        me.page.evaluate("document.querySelector('#message').textContent = ''")
        me.press("s")
        me.says("of slide.")
        shapes: dict[str, list[Any]] = {"Gland": [], "Region": []}
        for item in ask("GET", "/view/label?image=slide").json()["features"]:
            shapes[item["properties"]["classification"]["name"]].append(shapely.geometry.shape(item["geometry"]))
        return shapes

    me.page.get_by_role("button", name="Mark view as complete").click()
    me.press("b")
    me.drag(np.array([[60.0, 60], [90, 60]]), size)
    shapes = saved()
    assert [shape.bounds for shape in shapes["Region"]] == [(0, 0, 224, 256)]
    assert shapes["Gland"][0].intersects(shapely.LineString([[60, 60], [90, 60]]))

    # Classes: of new outlines, and of a selected one.
    me.page.locator("#class").select_option("Region")
    me.drag(np.array([[60.0, 180], [90, 180]]), size)
    shapes = saved()
    assert (len(shapes["Gland"]), len(shapes["Region"])) == (1, 2)
    me.press("v")
    me.page.mouse.click(*me.places(np.array([[75.0, 60.0]]), size)[0])
    me.page.wait_for_function("() => document.querySelector('#class').value === 'Gland'")
    me.page.locator("#class").select_option("Region")
    shapes = saved()
    assert (len(shapes["Gland"]), len(shapes["Region"])) == (0, 3)

    # Only the visible part is predicted.
    for _ in range(3):
        me.page.locator("#zoomin").click()
    time.sleep(0.5)
    with me.page.expect_request(lambda request: "/infer/" in request.url) as sent:
        me.page.locator("#predicthere").click()
    part = json.loads(re.search(r"{.*}", sent.value.post_data)[0])
    x, y = part["location"]
    right, bottom = x + part["size"][0], y + part["size"][1]
    assert 0 < y < bottom < 256
    me.says("predicted and not accepted", "#outlines")
    me.press("a")
    (gland,) = saved()["Gland"]
    assert gland.bounds == pytest.approx((max(x, 0), y, min(right, 224), bottom), abs=2)


def test_versions_of_the_model_are_compared(
    server: Any, ask: Callable[..., Any], eager_bundle: Path, person: Callable[..., Person]
) -> None:
    weights = (eager_bundle / "models" / "model.pt").read_bytes()
    for _ in range(2):  # the second replaces the first, which is kept
        ask("PUT", "/model/semi_moe", files={"file": ("model.pt", weights)})
    names = ask("GET", "/info/").json()["models"]["semi_moe"]["config"]["model_filename"]
    me = person(server, "square_1")
    me.says("3 of 3: the model in use", "#versionname")
    for at, text in (("1", "2 of 3: replaced"), ("0", "1 of 3: the shipped model")):
        with me.page.expect_response(lambda response: "/infer/" in response.url) as answer:
            me.page.locator("#version").fill(at)
        assert names[2 - int(at)] in answer.value.request.post_data
        assert answer.value.ok
        me.says(text, "#versionname")
    blue = """() => {
        const canvas = document.querySelector('.outlines');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.some((value, at) => at % 4 === 2 && value > 240 && pixels[at - 2] < 20 && pixels[at + 1] > 240);
    }"""
    me.page.wait_for_function(blue)
    me.page.locator("#compare").uncheck()
    me.page.wait_for_function(f"() => !({blue})()")


@pytest.mark.parametrize(("size", "touches"), [(DESKTOP, False), (TABLET, True)], ids=["desktop", "tablet"])
def test_all_of_the_page_fits(server: Any, person: Callable[..., Person], size: dict[str, int], touches: bool) -> None:
    me = person(server, "square_1", viewport=size, has_touch=touches)
    assert me.page.evaluate("document.documentElement.scrollWidth <= innerWidth && scrollY === 0")
    for button in me.page.locator("button:visible, select:visible, input:visible").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
    view = me.page.locator("#viewer").bounding_box()
    assert min(view["width"], view["height"]) > 400
    if touches:
        me.page.locator("[data-tool=brush]").tap()
        me.page.touchscreen.tap(*me.places(np.array([[48.0, 48.0]]), (96, 96))[0])
        me.says("1 outline (not saved)", "#outlines")


def test_a_login_is_asked_for(server: Any, person: Callable[..., Person]) -> None:
    """The page sends the token with each request, also for tiles; tests/label_app/test_security.py has the server's."""
    me = person(server, "square_1")
    messages: list[str] = []

    def guard(route: Any) -> None:
        if route.request.header_value("authorization") == "Bearer secret":
            messages.append(route.request.url)
            route.continue_()
        else:
            route.fulfill(status=401, json={"detail": "Not authenticated"})

    def grant(route: Any) -> None:
        if route.request.post_data == "username=tester&password=right":
            route.fulfill(json={"access_token": "secret", "token_type": "bearer"})
        else:
            route.fulfill(status=401, json={"detail": "wrong password"})

    me.context.route(re.compile("/(info|datastore|view)/"), guard)
    me.context.route("**/auth/token", grant)
    me.page.close()
    me.page = me.context.new_page()
    me.page.goto(f"{server.url}/#square_1")
    me.page.locator("#login").wait_for()
    me.page.locator("[name=user]").fill("tester")
    for password in ("wrong", "right"):
        me.page.locator("[name=password]").fill(password)
        me.page.keyboard.press("Enter")
        if password == "wrong":
            me.says("No login: wrong password", "#login p")
    me.page.locator("#login").wait_for(state="hidden")
    me.shows("square_1")
    assert any("/view/tile" in url for url in messages)
