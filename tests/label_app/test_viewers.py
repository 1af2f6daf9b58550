"""Requests of viewers to a real server: MONAI Label's own client, QuPath's extension 0.3.1, DSA and CVAT's function."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    from monailabel.client import MONAILabelClient

pytest_plugins = ["tests.label_app.served"]
# MONAI Label's client leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

MODEL = "semi_moe"
NAMES = ("oblong_1", "square_1")
SLIDE = (224, 256)
"""Width and height of the slide, px."""

Tiles = Mapping[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def studies(make_studies: Callable[..., Path], slide_file: Path) -> Path:
    """Two tiles and a slide."""
    folder = make_studies(*NAMES)
    shutil.copy(slide_file, folder)
    return folder


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], studies: Path) -> Any:
    return serve(studies, {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"})


@pytest.fixture(scope="module")
def client(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """MONAI Label's own client."""
    return MONAILabelClient(server.url, str(tmp_path_factory.mktemp("client")))


@pytest.fixture(scope="module")
def web(server: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    return connect(server.url)


def mask_of(web: Callable[..., Any], name: str) -> bytes:
    content: bytes = web("POST", f"/infer/{MODEL}?image={name}&output=image").content
    return content


def inside(points: Any, box: tuple[int, int, int, int]) -> bool:
    """Return whether points (n, 2 or more) lie in a box of x, y, width, height."""
    x, y, width, height = box
    corners = np.asarray(points, float)[:, :2]
    return bool((corners >= (x, y)).all() and (corners <= (x + width, y + height)).all())


def test_the_python_client_lists_uploads_and_leads_to_the_next(client: Any, tiles: Tiles) -> None:
    info = client.info()
    assert list(info["models"]) == list(info["trainers"]) == [MODEL]
    assert client.upload_image(str(tiles["oblong_2"][0]), "sent", {"mpp": 1.0}) == {"image": "sent"}
    objects = client.datastore()["objects"]
    assert sorted(objects) == sorted([*NAMES, "sent", "slide"])
    assert objects["sent"]["image"]["info"]["mpp"] == 1.0
    assert client.next_sample("first", {})["id"] == min(objects)
    saved = client.save_label("sent", str(tiles["oblong_2"][1]), "final")
    assert (saved["image"], saved["label"]) == ("sent", "sent")
    assert Path(client.download_label("sent", "final")).read_bytes() == tiles["oblong_2"][1].read_bytes()


def test_the_python_client_gets_masks_and_outlines(client: Any, web: Callable[..., Any]) -> None:
    file, params = client.infer(MODEL, "oblong_1", {})
    mask = np.asarray(Image.open(file))
    assert (mask.shape, mask.dtype) == ((64, 112), np.uint8)
    assert 0.02 < (mask == 1).mean() == (mask > 0).mean() < 0.98
    assert Path(file).read_bytes() == mask_of(web, "oblong_1")
    assert params["model"] == MODEL
    body = {"size": [0, 0], "min_poly_area": 10}
    result = {form: client.wsi_infer(MODEL, "oblong_1", dict(body), form)[1] for form in ("asap", "dsa", "json")}
    elements = json.loads(result["json"])["annotations"][0]["annotation"]["elements"]
    counts = {len(json.loads(result["dsa"])["elements"]), result["asap"].count(b"<Annotation ")}
    assert counts == {sum(len(element["contours"]) for element in elements)} != {0}


def qupath_outlines(xml: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return class and corners of each polygon, read as by the extension."""
    result = []
    for annotation in minidom.parseString(xml).getElementsByTagName("Annotation"):
        for coordinates in (node for node in annotation.childNodes if node.nodeType == node.ELEMENT_NODE):
            corners = [node for node in coordinates.childNodes if node.attributes is not None]
            points = [(float(node.getAttribute("X")), float(node.getAttribute("Y"))) for node in corners]
            result.append((annotation.getAttribute("Name"), points))
    return result


def qupath_form(file: tuple[str, str, bytes], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return body and headers of a form as the extension writes it: without a line end after the last boundary."""
    key, name, content = file
    border, kind = "305419896", "image/png" if name.endswith(".png") else "application/xml"
    parts = [(f'name="{key}"; filename="{name}"\r\nContent-Type: {kind}', content)]
    parts += [(f'name="{field}"', text.encode()) for field, text in texts.items()]
    disposition = f"--{border}\r\nContent-Disposition: form-data; "
    body = b"".join(f"{disposition}{reported}\r\n\r\n".encode() + data + b"\r\n" for reported, data in parts)
    headers = {"Content-Type": f"multipart/form-data; boundary={border}"}
    return {"data": body + f"--{border}--".encode(), "headers": headers}


def qupath_request(x: int, y: int, width: int, height: int) -> str:
    clicks = '"params":{"foreground":[],"background":[],"max_workers":1}'
    box = f'"location":[{x},{y}],"size":[{width},{height}],"tile_size":[1024,1024]'
    return f'{{"level":0,{box},"min_poly_area":30,{clicks}}}'


QUPATH_XML = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<ASAP_Annotations><Annotations Description="" H="48" Name="" W="64" X="8" Y="4">
<Annotation Color="#c80000" Name="Gland" PartOfGroup="Gland" Type="Polygon"><Coordinates>
<Coordinate Order="0" X="10" Y="10"/><Coordinate Order="1" X="40" Y="10"/><Coordinate Order="2" X="40" Y="30"/>
</Coordinates></Annotation>
</Annotations><AnnotationGroups><Group Color="#c80000" Name="Gland" PartOfGroup="None"/></AnnotationGroups>
</ASAP_Annotations>"""


def test_qupath_opens_answers_submits_and_asks_for_the_next(
    web: Callable[..., Any], client: Any, tiles: Tiles, studies: Path
) -> None:
    """The extension's class sends JSON as text without a content type; `requests` does the same for text."""
    labels = set(web("GET", "/info/").json()["models"][MODEL]["labels"])
    web("HEAD", "/datastore/image?image=oblong_1")
    web("HEAD", "/datastore/image?image=elsewhere", 404)
    patch = tiles["oblong_3"][0].read_bytes()
    form = qupath_form(("file", "patch8812.png", patch), {"wsi": qupath_request(0, 0, 0, 0)})
    requested = {
        "tile": (f"/infer/wsi/{MODEL}?output=asap&image=oblong_1", {"data": qupath_request(5, 5, 50, 50)}),
        "slide": (f"/infer/wsi/{MODEL}?output=asap&image=slide", {"data": qupath_request(40, 30, 150, 200)}),
        "patch": (f"/infer/wsi_v2/{MODEL}?output=asap", form),
    }
    boxes = {"tile": (0, 0, 112, 64), "slide": (40, 30, 150, 200), "patch": (0, 0, 112, 64)}
    for name, (path, message) in requested.items():
        outlines = qupath_outlines(web("POST", path, **message).text)
        assert {label for label, _ in outlines} == labels == {"Gland"}, name
        assert all(inside(points, boxes[name]) for _, points in outlines), name
    web("PUT", "/datastore/image?image=part-8_4", **qupath_form(("file", "patch881.png", patch), {"params": "{}"}))
    xml = ("label", "part-8_4123.xml", QUPATH_XML.encode())
    saved = web("PUT", "/datastore/label?image=part-8_4&tag=final", **qupath_form(xml, {"params": "{}"})).json()
    assert saved["label"] == "part-8_4"
    assert (studies / "labels" / "final" / "part-8_4.xml").read_bytes() == QUPATH_XML.encode()
    body = '{"image": "slide", "patch_size": [64, 32],"image_size": [224, 256]}'
    x, y, width, height = web("POST", "/activelearning/random", data=body).json()["bbox"]
    assert (width, height) == (64, 32)
    assert inside([(x, y), (x + width, y + height)], (0, 0, *SLIDE))
    free = web("POST", "/activelearning/random", data=body.replace("slide", "")).json()
    assert free["id"] in client.datastore()["objects"]


def test_dsa_gets_an_annotation_of_the_tiles_that_it_names(web: Callable[..., Any]) -> None:
    spots = [{"location": [0, 0], "size": [112, 64]}, {"location": [112, 128], "size": [112, 64]}]
    body = {"level": 0, "location": [-1, -1], "size": [-1, -1], "tile_size": [1024, 1024], "min_poly_area": 10.0}
    body |= {"output": "dsa", "params": {"wsi_tiles": spots}, "client_id": None}
    response = web("POST", f"/infer/wsi/{MODEL}?image=slide&output=dsa", json=body).json()
    assert response["description"]
    assert response["name"]
    positions = [(*spot["location"], *spot["size"]) for spot in spots]
    points = [element["points"] for element in response["elements"]]
    assert all(any(inside(outline, position) for position in positions) for outline in points)
    assert all(any(inside(outline, position) for outline in points) for position in positions)
    whole = web("POST", f"/infer/wsi/{MODEL}?image=slide&output=dsa", json=body | {"params": {"wsi_tiles": []}}).json()
    assert len(whole["elements"]) > len(points)


def test_cvat_gets_polygons_for_a_frame(client: Any, tiles: Tiles, tmp_path: Path) -> None:
    Image.open(tiles["oblong_1"][0]).convert("RGB").save(tmp_path / "frame.jpg")
    _, response = client.infer(MODEL, "", {"output": "json", "min_poly_area": 10}, file=str(tmp_path / "frame.jpg"))
    polygons = [
        (element["label"], np.array(contour, int))
        for item in json.loads(response)["annotations"]
        for element in item["annotation"]["elements"]
        for contour in element["contours"]
    ]
    assert {label for label, _ in polygons} == {"Gland"}
    assert all(inside(points, (0, 0, 112, 64)) and points.shape[1] == 2 for _, points in polygons)


def test_answers_at_the_same_time_are_those_of_one_after_another(web: Callable[..., Any]) -> None:
    def ask(name: str) -> bytes:
        if name == "slide":
            body = {"size": [96, 96], "params": {"max_workers": 2}}
            return web("POST", f"/infer/wsi/{MODEL}?image=slide&output=asap", json=body).content
        return mask_of(web, name)

    names = ("slide", "oblong_1", "slide", "square_1", "oblong_1")
    quiet = {name: ask(name) for name in set(names)}
    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(ask, names)) == [quiet[name] for name in names]


def test_the_scripts_for_qupath_predict_send_train_and_go_on(
    server: Any, web: Callable[..., Any], studies: Path, repository_root: Path
) -> None:
    """Groovy runs the scripts; the few QuPath classes that they use are stubs in `qupath` beside this file."""
    if shutil.which("groovy") is None or shutil.which("java") is None:
        pytest.skip("Groovy is not installed here; on Debian: apt-get install groovy")
    stubs, scripts = Path(__file__).parent / "qupath", repository_root / "scripts" / "qupath"
    java = Path(shutil.which("java") or "").resolve().parents[1]
    completed = subprocess.run(
        ["groovy", "-cp", stubs, stubs / "session.groovy", scripts, studies],
        capture_output=True,
        text=True,
        env={**os.environ, "JAVA_HOME": str(java), "JAVA_OPTS": f"-Dlabel.server={server.url}"},
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr[-2000:]
    output = [
        line for line in completed.stdout.splitlines() if not line.startswith(("- ", "Epoch 1 of 1"))
    ]  # a fast training is not seen running
    patterns = [
        *["No image is open; open one of the folder that the label server serves."] * 2,
        "No project is open; make one of the images in the folder of the label server.",
        "No annotation has a class; give the class Gland to all outlines of glands.",
        r"Outlines predicted in all of oblong_1: (\d+)\.",
        r"Outlines predicted in the selected region of oblong_1: [1-9]\d*\.",
        r"Outlines predicted in the selected region of slide: [1-9]\d*\.",
        r"Outlines saved as the label of oblong_1: (\d+)\.",
        "The argument is some; give a number of epochs.",
        r"Training started\.",
        "Training done: .+",
        r"The next image is (\w+); add it to the project first\.",
        r"opened file:.*/(\w+)\.\w+",
        r"Next: (\w+)\.",
        "The label server refused: there is no 'wise'; available: .*",
        "There is no label server at http://127.0.0.1:9; start it, or .*",
    ]
    matches = [re.fullmatch(pattern, line) for pattern, line in zip(patterns, output, strict=True)]
    assert [line for match, line in zip(matches, output, strict=True) if match is None] == []
    predicted, saved, missing, opened, following = (match[1] for match in matches if match.re.groups)
    assert predicted == saved
    assert {missing, opened} <= {"slide", "square_1"}, "the other images have a label"
    assert opened == following
    features = json.loads((studies / "labels" / "final" / "oblong_1.geojson").read_text(encoding="utf-8"))["features"]
    assert len(features) == int(saved)
