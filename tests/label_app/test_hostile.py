"""Malicious requests: none reads, writes or runs anything forbidden, and the server still responds afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
import psutil

pytest_plugins = ["tests.label_app.served"]

MODEL = "semi_moe"
INFER = f"/infer/{MODEL}"
UPLOAD_MIB = 3
"""Largest upload of the server, MiB."""
LITTLE = 400 << 20
"""Bytes that a server may come to need while it refuses; a bomb takes gigabytes."""
DEEP = "[" * 20_000 + "]" * 20_000
LAUGHS = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
XML = (
    '<?xml version="1.0"?>{kind}<ASAP_Annotations><Annotations><Annotation Name="{name}" Type="Polygon"><Coordinates>'
    '<Coordinate Order="0" X="1" Y="1"/><Coordinate Order="1" X="9" Y="1"/><Coordinate Order="2" X="9" Y="7"/>'
    "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
)
GOOD_XML = XML.format(kind="", name="Gland").encode()

Ask = Callable[..., Any]


def picture(value: int = 200) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def bomb() -> bytes:
    """A PNG of a few kB that declares 40,000 x 40,000 px."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images in ``studies``, uploads in ``received``, and a picture outside both."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("studies", "received"):
        (folder / name).mkdir()
    (folder / "secret.png").write_bytes(picture(7))
    (folder / "studies" / "one.png").write_bytes(picture())
    return folder


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], studies: Path, slide_file: Path) -> Any:
    """A server without authentication, as on a personal machine."""
    shutil.copy(slide_file, studies / "studies" / "slide.tif")
    env = {"TMPDIR": str(studies / "received"), "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    return serve(studies / "studies", env, max_upload_mib=UPLOAD_MIB)


@pytest.fixture(scope="module")
def ask(server: Any, connect: Callable[..., Any]) -> Ask:
    """Return a function that sends a request and accepts any status."""
    ask = connect(server.url)
    return lambda method, path, **arguments: ask(method, path, None, **arguments)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all files except hidden ones and the index of images, which holds times."""
    result = {}
    for path in sorted(folder.rglob("[!.]*")):
        if path.is_file() and path.name != "datastore_v2.json":
            with contextlib.suppress(FileNotFoundError):  # what was received is removed just now
                result[str(path.relative_to(folder))] = path.read_bytes()
    return result


def stays(folder: Path, before: dict[str, bytes]) -> bool:
    """Return whether all files are unchanged; uploads are removed a moment after the response."""
    # An answer to the request before may not have been removed yet when it was looked.
    expected = {name: content for name, content in before.items() if not name.startswith("received/answer_")}
    end = time.monotonic() + 10
    while files_of(folder) != expected and time.monotonic() < end:
        time.sleep(0.1)
    return files_of(folder) == expected


def peak(server: Any) -> int:
    """Return the peak memory of a server in bytes, or its present memory where the system does not report the peak."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.is_file():
        return int(psutil.Process(server.process.pid).memory_info().rss)
    (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


NAMES = ("../secret", "SECRET", "../../etc/passwd", "/etc/passwd", "a/b", "..", ".hidden", "a\\..\\b", "a\x00b")
LONG = ("x" * 300, "\u4e00" * 150)
"""Names of more than 255 bytes, the second in fewer letters."""


@pytest.mark.parametrize("name", [*NAMES, *LONG])
def test_no_name_leads_out_of_the_folder(ask: Ask, studies: Path, name: str) -> None:
    name = name.replace("SECRET", str(studies / "secret.png"))
    before, good, xml = files_of(studies), {"file": ("a.png", picture(9))}, {"label": ("a.xml", GOOD_XML)}
    sent = [
        ask("PUT", "/datastore/image", params={"image": name}, files=good),
        ask("PUT", "/datastore/label", params={"image": name, "tag": "final"}, files=xml),
        ask("PUT", "/datastore/label", params={"image": "one", "tag": name}, files=xml),
        ask("POST", INFER, params={"image": name, "output": "image"}),
        ask("POST", INFER, params={"image": "one", "output": "image"}, data={"params": json.dumps({"image": name})}),
        ask("POST", f"/infer/wsi/{MODEL}", params={"image": name}, json={}),
        ask("POST", "/activelearning/first", json={"image": name}),
        ask("GET", "/datastore/image", params={"image": name}),
        ask("GET", "/datastore/label", params={"label": name, "tag": "final"}),
        ask("GET", "/datastore/label", params={"label": "one", "tag": name}),
        ask("DELETE", "/datastore/image", params={"id": name}),
        ask("DELETE", "/datastore/label", params={"id": name, "tag": "final"}),
        ask("DELETE", "/datastore/label", params={"id": "one", "tag": name}),
        ask("PUT", "/datastore/image/info", params={"image": name}, data={"info": "{}"}),
    ]
    for field in ("model", "model_filename", "result_extension"):
        params = json.dumps({field: name})
        sent.append(ask("POST", INFER, params={"image": "one", "output": "image"}, data={"params": params}))
    params = json.dumps({"save_label": True, "label_tag": name})
    sent.append(ask("POST", INFER, params={"image": "one"}, data={"params": params}))
    assert [item.status_code for item in sent if not 400 <= item.status_code < 500] == []
    assert stays(studies, before)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd.png", "a.x/../../b.png", "a.b\\..\\..\\c.png"])
def test_the_name_of_a_sent_file_says_nothing_of_its_place(ask: Ask, studies: Path, name: str) -> None:
    before, data = files_of(studies), picture(9)
    sent = ask("PUT", "/datastore/image?image=sent", files={"file": (name, data)})
    assert sent.json() == {"image": "sent"}
    assert stays(studies, before | {"studies/sent.png": data})


def test_a_model_in_the_path_is_one_that_there_is(ask: Ask) -> None:
    for name in ("..%2f..%2fsecret", "%2e%2e", "other", "x%00y"):
        for path in (
            f"/infer/{name}?image=one",
            f"/infer/wsi/{name}?image=one",
            f"/train/{name}",
            f"/batch/infer/{name}",
        ):
            assert ask("POST", path, json={}).status_code in (404, 422), path
        assert ask("GET", f"/model/{name}").status_code == 404


def test_sessions_are_off(ask: Ask) -> None:
    assert ask("PUT", "/session/", files={"files": ("a.zip", b"PK")}).status_code == 406
    assert ask("GET", "/session/a").status_code == 406
    assert ask("DELETE", "/session/a").status_code == 406


def test_no_request_says_where_new_processes_look_for_code(ask: Ask, studies: Path, tiny_bundle: Path) -> None:
    """MONAI Label adds ``bundle_path`` to the search path of Python; a picture can be an archive of modules."""
    body = {"bundle_path": str(studies / "studies" / "one.png")}
    for path in (f"/train/{MODEL}", f"/batch/infer/{MODEL}", "/scoring/disagreement"):
        for model in ("other", [MODEL]):
            assert ask("POST", path, json=body | {"model": model}).status_code == 404
    assert ask("POST", "/train/other", json=body).status_code == 404
    task = ask("POST", "/scoring/disagreement", json=body).json()
    assert task["request"]["bundle_path"] == tiny_bundle.name, "the server's own, by its name"


def test_the_bundles_own_model_stays(ask: Ask, tiny_bundle: Path) -> None:
    before = files_of(tiny_bundle / "models")
    ask("DELETE", f"/model/{MODEL}")
    assert files_of(tiny_bundle / "models") == before
    assert ask("POST", f"{INFER}?image=one&output=image").status_code == 200


class Harmful:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_a_model_that_is_sent_is_read_as_numbers_alone(ask: Ask, studies: Path, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Harmful(tmp_path / "trace")))
    assert (tmp_path / "trace").is_file()
    harmful = pickle.dumps(Harmful(tmp_path / "another"))
    ask("PUT", f"/model/{MODEL}", files={"file": ("model.pt", harmful)})
    sent = ask("POST", f"{INFER}?image=one&output=image")
    (studies / "studies" / "model" / "model.pt").unlink(missing_ok=True)
    assert sent.status_code == 200 or 400 <= sent.status_code < 500
    assert not (tmp_path / "another").exists()
    assert ask("POST", f"{INFER}?image=one&output=image").status_code == 200


UPLOADS = {
    "no picture": ("a.png", b"no picture"),
    "empty": ("a.png", b""),
    "truncated": ("a.png", picture()[:60]),
    "of another kind": ("a.exe", picture()),
    "without an ending": ("a", picture()),
    "a long ending": (f"a.{'x' * 300}", picture()),
    "bomb": ("a.png", bomb()),
    "bomb that is a slide": ("a.svs", bomb()),
}
LABELS = {
    "laughs": ("a.xml", XML.format(kind=f'<!DOCTYPE l [<!ENTITY a "lol">{LAUGHS}]>', name="&j;").encode()),
    "a file": ("a.xml", XML.format(kind='<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>', name="&a;").encode()),
    "cut": ("a.xml", GOOD_XML[:-30]),
    "deep": ("a.json", DEEP.encode()),
    "deep features": ("a.geojson", f'{{"type": "FeatureCollection", "features": {DEEP}}}'.encode()),
    "no mask": ("a.png", b"no mask"),
    "bomb": ("a.png", bomb()),
}
PARAMS = {
    "deep": DEEP,
    "no JSON": "{",
    "huge": '{"mpp": 2000}',
    "endless": '{"mpp": 1e400}',
    "no device": '{"device": "toaster"}',
    "of another type": '{"model_filename": 5}',
}


def refused(sent: Any) -> bool:
    return 400 <= sent.status_code < 500 and bool(sent.json()["detail"])


@pytest.mark.parametrize("kind", UPLOADS)
def test_pictures_that_cannot_be_read_are_refused(ask: Ask, server: Any, studies: Path, kind: str) -> None:
    before, memory, files = files_of(studies), peak(server), {"file": UPLOADS[kind]}
    assert refused(ask("PUT", "/datastore/image?image=bad", files=files))
    assert refused(ask("POST", f"{INFER}?output=image", files=files))
    assert refused(ask("POST", f"/infer/wsi_v2/{MODEL}?output=asap", files=files, data={"wsi": "{}"}))
    assert peak(server) - memory < LITTLE
    assert stays(studies, before), "nothing stays of what was received"


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_cannot_be_read_are_refused(ask: Ask, server: Any, studies: Path, kind: str) -> None:
    before, memory = files_of(studies), peak(server)
    assert refused(ask("PUT", "/datastore/label?image=one&tag=final", files={"label": LABELS[kind]}))
    assert peak(server) - memory < LITTLE
    assert stays(studies, before)


@pytest.mark.parametrize("kind", PARAMS)
def test_settings_that_are_none_are_refused(ask: Ask, server: Any, kind: str) -> None:
    memory = peak(server)
    assert refused(ask("POST", f"{INFER}?image=one&output=image", data={"params": PARAMS[kind]}))
    assert peak(server) - memory < LITTLE
    assert ask("GET", "/info/").status_code == 200


@pytest.mark.parametrize("path", [f"/infer/wsi/{MODEL}?image=one", "/activelearning/first", f"/train/{MODEL}"])
def test_bodies_that_are_nested_too_deeply_are_refused(ask: Ask, path: str) -> None:
    for data in (DEEP, '{"params": ' + DEEP + "}", "{"):
        assert refused(ask("POST", path, data=data, headers={"Content-Type": "application/json"}))
    assert ask("GET", "/info/").status_code == 200


def test_web_pages_of_other_places_get_nothing(ask: Ask, server: Any) -> None:
    strange = {"Origin": "http://pages.example"}
    first = ask("OPTIONS", "/datastore/image", headers=strange | {"Access-Control-Request-Method": "PUT"})
    read = ask("GET", "/info/", headers=strange)
    assert not [name for name in (*first.headers, *read.headers) if name.lower() == "access-control-allow-origin"]
    assert ask("POST", f"/train/{MODEL}", headers=strange).status_code == 403
    assert ask("GET", "/info/", headers={"Origin": server.url}).status_code == 200, "its own page"
    assert ask("POST", "/reload").status_code in (404, 405)


NO_OBJECTS = ("[1]", "5", '"a"', "null", "[[]]")


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_settings_that_are_no_object_are_refused(ask: Ask, studies: Path, text: str) -> None:
    before, file, xml = files_of(studies), {"file": ("a.png", picture())}, {"label": ("a.xml", GOOD_XML)}
    for sent in (
        ask("POST", f"{INFER}?image=one", data={"params": text}),
        ask("POST", f"{INFER}?output=image", data={"params": text}, files=file),
        ask("POST", f"/infer/wsi_v2/{MODEL}?image=one", data={"wsi": text}),
        ask("PUT", "/datastore/image?image=new", data={"params": text}, files=file),
        ask("PUT", "/datastore/label?image=one", data={"params": text}, files=xml),
        ask("PUT", "/datastore/image/info?image=one", data={"info": text}),
        ask("PUT", "/datastore/label/info?label=one&tag=final", data={"info": text}),
    ):
        assert refused(sent)
        assert "must be a JSON object" in sent.json()["detail"]
    assert stays(studies, before)


def test_a_request_without_an_image_is_refused(ask: Ask) -> None:
    for path in (INFER, f"/infer/wsi/{MODEL}", f"/infer/wsi_v2/{MODEL}"):
        sent = ask("POST", path, json={} if "/wsi/" in path else None)
        assert (sent.status_code, "names no image" in sent.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{INFER}?image=one&output=dicom_seg", {}),
        (f"{INFER}?image=one&session_id=a", {}),
        (f"{INFER}?image=one&output=image", {"params": '{"output": "json"}'}),
        (f"{INFER}?image=one", {"params": '{"output": {"a": 1}}'}),
        (f"{INFER}?image=one", {"params": '{"logging": "LOUD"}'}),
        (f"{INFER}?image=one", {"params": '{"label_tag": [1], "save_label": true}'}),
        (f"/infer/wsi_v2/{MODEL}?image=slide", {"wsi": '{"params": {"wsi_tiles": 5}}'}),
        (f"/infer/wsi_v2/{MODEL}?image=slide", {"wsi": '{"params": {"wsi_tiles": [5]}}'}),
        (f"/infer/wsi_v2/{MODEL}?image=slide", {"wsi": '{"params": {"location": [1e999, 0]}}'}),
        (f"/infer/wsi_v2/{MODEL}?image=slide", {"wsi": '{"location": "here"}'}),
    ],
)
def test_odd_settings_of_predictions_are_refused(ask: Ask, path: str, body: dict[str, str]) -> None:
    sent = ask("POST", path, data=body)
    assert refused(sent)
    assert isinstance(sent.json()["detail"], str)


def test_settings_of_transforms_are_not_for_requests(ask: Ask) -> None:
    given = json.dumps(
        {"skip_writer": True, "result_dtype": "float99", "image_path": "/etc/passwd", "cache_transforms": 5}
    )
    assert ask("POST", f"{INFER}?image=one&output=image", data={"params": given}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [(f"/train/{MODEL}", {"max_epochs": value}) for value in ("many", None, [], {}, True, 0, 1.5, 1e99)]
    + [(f"/train/{MODEL}", {"val_split": value}) for value in ("half", None, 2)]
    + [(f"/train/{MODEL}", {name: 5}) for name in ("gpus", "device", "pretrained", "max_epoch", "batchsize")]
    + [
        (f"/train/{MODEL}", {"name": "x" * 10**5}),
        ("/train/", {MODEL: 5}),
        ("/train/", {MODEL: {"max_epochs": "many"}}),
    ]
    + [("/scoring/disagreement", {"max_samples": "all"}), ("/scoring/", {"disagreement": {"device": "toaster"}})]
    + [(f"/batch/infer/{MODEL}", {name: []}) for name in ("max_batch_size", "mpp", "output")]
    + [(f"/batch/infer/{MODEL}", {"label_tag": "../a"})]
    + [
        ("/activelearning/first", {"image": "one", name: value})
        for name in ("patch_size", "image_size")
        for value in (5, "ab")
    ]
    + [("/activelearning/disagreement", {"image": "slide", "patch_size": [10**6, 10**6]})],
)
def test_tasks_that_would_fail_later_are_refused_at_once(ask: Ask, path: str, body: dict[str, Any]) -> None:
    assert refused(ask("POST", path, json=body))
    assert ask("GET", "/train/").status_code == 404, "no task was started"
    assert ask("GET", "/batch/infer").status_code == 404


def test_no_answer_names_a_folder_of_the_server(
    ask: Ask, studies: Path, tiny_bundle: Path, repository_root: Path
) -> None:
    requests = (
        *("GET /info/", "GET /datastore/?output=all", "GET /datastore/?output=train", "GET /proxy/dicom/a"),
        *("POST /proxy/dicom/wado/a", "GET /ohif/", "GET /logs/gpu", "GET /nothing", f"GET /model/info/{MODEL}"),
        *("GET /datastore/image/info?image=one", "HEAD /datastore/label?image=one&tag=x"),
        *("HEAD /datastore/image?image=one&check_sum=CRC:5", f"POST {INFER}?image=one&output=json"),
    )  # but not /logs/, the server's own log for its administrators
    sent = [ask(*request.split()) for request in requests]
    sent += [ask("POST", "/activelearning/first", json={}), ask("POST", "/scoring/disagreement", json={})]
    sent += [ask("PUT", "/datastore/image?image=bad", files={"file": ("a.tif", b"II*\0nothing")})]
    assert [item.status_code for item in sent if item.status_code >= 500] == []
    assert sent[3].status_code == 404
    for item in sent:
        for folder in (studies, tiny_bundle, repository_root):
            assert str(folder) not in item.text, item.url
    assert ask("GET", "/datastore/image/info?image=one").json()["path"] == "one.png"


def test_a_long_prediction_keeps_nobody_waiting(ask: Ask, connect: Callable[..., Any], server: Any) -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((600, 600, 3), 200, np.uint8)).save(data, "PNG")
    other = connect(server.url)
    with ThreadPoolExecutor(3) as pool:
        files = {"file": ("large.png", data.getvalue())}
        long = [pool.submit(ask, "POST", f"{INFER}?output=image", files=files) for _ in range(3)]
        for _ in range(3):
            other("GET", "/info/")
            other("GET", "/datastore/?output=all")
        assert not all(item.done() for item in long), "it answers before the predictions"
        assert [item.result().status_code for item in long] == [200] * 3


SIZES: list[dict[str, int]] = [
    *({name: 0} for name in ("ImageWidth", "ImageLength", "TileWidth", "SamplesPerPixel", "BitsPerSample")),
    {"TileWidth": 2**16 - 16, "TileLength": 2**16 - 16},
    {"ImageWidth": 2**31, "ImageLength": 2**31},
]


@pytest.mark.parametrize("ending", [".tif", ".svs"])
@pytest.mark.parametrize("changes", SIZES, ids=str)
def test_a_tiff_with_wrong_sizes_is_refused(
    ask: Ask,
    server: Any,
    studies: Path,
    tmp_path: Path,
    declared: Callable[..., bytes],
    changes: dict[str, int],
    ending: str,
) -> None:
    before, memory = files_of(studies), peak(server)
    files = {"file": (f"a{ending}", declared(tmp_path / "a.tif", **changes))}
    for sent in (
        ask("PUT", "/datastore/image?image=bad", files=files),
        ask("POST", f"{INFER}?output=image", files=files),
        ask("POST", f"/infer/wsi_v2/{MODEL}?output=asap", files=files, data={"wsi": "{}"}),
    ):
        assert refused(sent)
        assert str(studies) not in sent.text
    assert peak(server) - memory < LITTLE
    assert stays(studies, before)


def test_a_label_that_crosses_itself_everywhere_is_refused_at_once(ask: Ask) -> None:
    points = np.random.default_rng(0).random((800, 2)) * 20
    ring = [*points.tolist(), points[0].tolist()]
    label = json.dumps({"type": "Polygon", "coordinates": [ring]}).encode()
    sent = ask("PUT", "/datastore/label?image=one&tag=final", files={"label": ("a.geojson", label)})
    assert sent.status_code == 422
    assert "crosses itself more than 2,000 times" in sent.json()["detail"]


def test_only_names_of_this_machine_are_served(ask: Ask, server: Any) -> None:
    """DNS rebinding: requests of a page of evil.example have this name as host and origin."""
    port = server.url.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "[::1]", "LOCALHOST."):
        assert ask("GET", "/info/", headers={"Host": f"{host}:{port}"}).status_code == 200, host
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "8.8.8.8",
        "[",
        "[::2]",
        "a@localhost",
    ):
        headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
        for method, path in (("GET", "/info/"), ("DELETE", "/datastore/image?id=one")):
            sent = ask(method, path, headers=headers)
            assert sent.status_code == 403, host
            assert refused(sent)
    for origin in ("http://[", "http://a:b", "http://[::1", "null", "", "http://127.0.0.1:1", "\xe9"):
        assert ask("GET", "/info/", headers={"Origin": origin.encode("latin-1")}).status_code == 403, origin


def test_uploads_have_a_limit(ask: Ask, studies: Path) -> None:
    before = files_of(studies)
    large = b"x" * (UPLOAD_MIB + 1 << 20)
    sent = ask("PUT", "/datastore/image?image=bad", files={"file": ("a.png", large)})
    assert (sent.status_code, f"larger than {UPLOAD_MIB} MiB" in sent.json()["detail"]) == (413, True)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    pieces = iter([head, *[large[: 1 << 20]] * (UPLOAD_MIB + 1)])  # without a declared length
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert ask("PUT", "/datastore/image?image=bad", data=pieces, headers=headers).status_code == 413
    assert ask("POST", f"/train/{MODEL}", data=b" " * (9 << 20)).status_code == 413
    assert stays(studies, before)
    assert ask("GET", "/info/").status_code == 200
