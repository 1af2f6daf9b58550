"""GeoJSON files, read back with shapely and json, in the form that QuPath expects."""

from __future__ import annotations

import json
import resource
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import shapely
from shapely import MultiPolygon, Polygon

from bundle.inference.geojson import GeoJSONWriter, feature

GREEN = (0, 158, 115)
HOLED = Polygon([(0, 0), (0, 9), (9, 9), (9, 0)], [[(2, 2), (4, 2), (4, 4), (2, 4)]])


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Limit the size of files in this process, which raises a system error like that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# One feature


def test_a_feature_has_the_form_of_qupath():
    geojson = feature(HOLED, "Gland", GREEN, name="7", measurements={"Area um^2": 77.0})
    assert geojson["type"] == "Feature"
    assert str(uuid.UUID(geojson["id"])) == geojson["id"]
    assert geojson["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "Gland", "color": [0, 158, 115]},
        "name": "7",
        "measurements": {"Area um^2": 77},
    }


def test_what_is_not_given_is_not_written():
    geojson = feature(HOLED, "Gland", GREEN, object_type="detection")
    assert geojson["properties"].keys() == {"objectType", "classification"}
    assert geojson["properties"]["objectType"] == "detection"


@pytest.mark.parametrize("shape", [HOLED, HOLED.reverse(), MultiPolygon([HOLED, shapely.box(20, 20, 21, 22)])])
def test_geometry_is_read_back_with_rings_closed_and_turned_as_the_standard_says(shape):
    geometry = feature(shape, "Gland", GREEN)["geometry"]
    assert geometry["type"] == shape.geom_type
    assert shapely.from_geojson(json.dumps(geometry)).equals(shape)
    polygons = [geometry["coordinates"]] if shape.geom_type == "Polygon" else geometry["coordinates"]
    for outer, *holes in polygons:
        assert outer[0] == outer[-1]
        assert shapely.LinearRing(outer).is_ccw
        assert all(hole[0] == hole[-1] and not shapely.LinearRing(hole).is_ccw for hole in holes)


def test_whole_numbers_are_written_as_such_and_others_with_two_decimals():
    triangle = Polygon([(0, 0), (10.123456, 0), (10, 2.5)])
    text = json.dumps(feature(triangle, "Gland", GREEN)["geometry"])
    assert text == '{"type": "Polygon", "coordinates": [[[0, 0], [10.12, 0], [10, 2.5], [0, 0]]]}'


def test_ids_tell_features_apart_and_stay_from_run_to_run():
    first, repeated = feature(HOLED, "Gland", GREEN), feature(HOLED, "Gland", GREEN)
    assert first == repeated
    ids = {
        geojson["id"]
        for geojson in (first, feature(HOLED, "Other", GREEN), feature(shapely.box(0, 0, 1, 1), "Gland", GREEN))
    }
    assert len(ids) == 3
    named = feature(HOLED, "Gland", GREEN, identifier="slide 1, gland 3")["id"]
    assert named == feature(shapely.box(0, 0, 1, 1), "Other", GREEN, identifier="slide 1, gland 3")["id"]
    assert named not in ids


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"object_type": "cell"}, "annotation, detection"),
        ({"color": (0, 0, 256)}, "each 0 to 255"),
        ({"color": (0, 0)}, "each 0 to 255"),
        ({"measurements": {"Area": float("nan")}}, "'Area' is nan"),
        ({"shape": Polygon()}, "not empty"),
        ({"shape": shapely.Point(0, 0)}, "must be a polygon"),
    ],
)
def test_what_qupath_could_not_open_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        feature(**{"shape": HOLED, "classification": "Gland", "color": GREEN} | given)


# The file


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_file_holds_all_its_features(tmp_path: Path, count):
    path = tmp_path / "new" / "slide.geojson"
    shapes = [shapely.box(index, 0, index + 1, 2) for index in range(count)]
    with GeoJSONWriter(path) as writer:
        for shape in shapes:
            writer.write(feature(shape, "Drüse", GREEN))
        assert not path.exists()  # not before it is whole
    assert writer.count == count
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["type"] == "FeatureCollection"
    assert [item["properties"]["classification"]["name"] for item in read["features"]] == ["Drüse"] * count
    collection = shapely.from_geojson(path.read_text(encoding="utf-8"))
    assert [part.equals(shape) for part, shape in zip(collection.geoms, shapes, strict=True)] == [True] * count
    assert [file.name for file in path.parent.iterdir()] == ["slide.geojson"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "slide.geojson"
    path.write_text("old")
    failed = FileNotFoundError(2, "No such file or directory", "slide.svs")

    def write() -> None:
        with GeoJSONWriter(path) as writer:
            writer.write(feature(HOLED, "Gland", GREEN))
            raise failed

    with pytest.raises(FileNotFoundError, match=r"slide\.svs") as raised:
        write()
    assert raised.value is failed  # the error of another file does not take this one's name
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [5, 2000])  # fails when the file is closed, and while it is written
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path, small_disk, count):
    path = tmp_path / "slide.geojson"
    geojson = feature(HOLED, "Gland", GREEN)

    def write() -> None:
        with GeoJSONWriter(path) as writer:
            for _ in range(count):
                writer.write(geojson)

    small_disk(1000)
    with pytest.raises(OSError, match=r"slide\.geojson") as raised:
        write()
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_taken_away(tmp_path: Path):
    (tmp_path / ".slide.geojson.12.partial").touch()
    (tmp_path / ".other.geojson.12.partial").touch()
    with GeoJSONWriter(tmp_path / "slide.geojson"):
        pass
    assert {file.name for file in tmp_path.iterdir()} == {".other.geojson.12.partial", "slide.geojson"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"slide\.geojson"), GeoJSONWriter(tmp_path / "file" / "slide.geojson"):
        pass


def test_features_are_written_inside_of_with_only(tmp_path: Path):
    with pytest.raises(ValueError, match="is not open"):
        GeoJSONWriter(tmp_path / "slide.geojson").write(feature(HOLED, "Gland", GREEN))


def test_features_are_not_kept_in_memory(tmp_path: Path):
    path = tmp_path / "slide.geojson"
    with GeoJSONWriter(path) as writer:
        for index in range(2000):
            writer.write(feature(shapely.box(index, 0, index + 1, 1), "Gland", GREEN))
        (hidden,) = tmp_path.iterdir()
        assert hidden.name.startswith(".")
        assert hidden.stat().st_size > 400_000
