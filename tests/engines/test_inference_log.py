"""Journal of an inference: finished images are skipped, others are processed, and results are not mixed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ignite.engine import Engine

from bundle.engines import EvaluationFiles, InferenceLog
from bundle.types import FAILED, FILES, IMAGE

SETTINGS = {"mpp": None, "crop_size": [32, 32]}


@pytest.fixture
def images(tmp_path) -> list[dict[str, str]]:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.png").write_bytes(name.encode())
    return [{IMAGE: str(file)} for file in sorted(folder.iterdir())]


@pytest.fixture
def model(tmp_path) -> Path:
    file = tmp_path / "model.pt"
    file.write_bytes(b"weights")
    return file


def journal(tmp_path, model, overwrite=False, **settings) -> InferenceLog:
    return InferenceLog(tmp_path / "out", model, SETTINGS | settings, overwrite)


def run(journal, entries, broken=(), stop_after=None, stop_writing=None) -> list[str]:
    """Process the entries as an engine does, with one file for each; return the names of the processed ones.

    ``stop_after``: stop before this number; ``stop_writing``: stop after the file of this image, before its record.
    """
    recorded = []

    def step(_, entry):
        if len(recorded) == stop_after:
            raise KeyboardInterrupt
        path = Path(entry[IMAGE])
        recorded.append(path.stem)
        if path.stem in broken:
            return [{IMAGE: str(path), FAILED: f"{path} is damaged"}]
        written = journal.folder / f"{path.stem}_mask.png"
        written.write_bytes(b"mask")
        if path.stem == stop_writing:
            raise KeyboardInterrupt
        return [{IMAGE: str(path), FILES: [str(written)]}]

    engine = Engine(step)
    journal.attach(engine)
    engine.run(entries, max_epochs=1, epoch_length=len(entries))
    return recorded


def names(entries) -> str:
    return "".join(Path(entry[IMAGE]).stem for entry in entries)


def test_a_stopped_run_goes_on_with_what_is_left(tmp_path, model, images):
    first = journal(tmp_path, model)
    with pytest.raises(KeyboardInterrupt):
        run(first, first.remaining(images), stop_after=2)
    assert not (tmp_path / "out" / "summary.json").exists()
    second = journal(tmp_path, model)
    assert run(second, second.remaining(images)) == ["c", "d"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["images"], summary["written"], summary["done before"], summary["failed"]) == (4, 2, 2, [])
    assert journal(tmp_path, model).remaining(images) == []


def test_a_changed_picture_or_a_lost_result_is_done_again(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images))
    Path(images[0][IMAGE]).write_bytes(b"another")
    (tmp_path / "out" / "c_mask.png").unlink()
    assert names(journal(tmp_path, model).remaining(images)) == "ac"


@pytest.mark.parametrize(
    ("settings", "weights", "expected"), [({"mpp": 0.5}, b"weights", "mpp"), ({}, b"new", "model")]
)
def test_results_of_another_inference_are_not_mixed_in(tmp_path, model, images, settings, weights, expected):
    first = journal(tmp_path, model)
    run(first, first.remaining(images))
    model.write_bytes(weights)
    with pytest.raises(
        ValueError, match=rf"holds results of another inference \(different {expected}\).*--overwrite True"
    ):
        journal(tmp_path, model, **settings).remaining(images)
    repeated = journal(tmp_path, model, "True", **settings)
    assert run(repeated, repeated.remaining(images)) == ["a", "b", "c", "d"]
    assert journal(tmp_path, model, **settings).remaining(images) == []


def test_what_failed_is_told_and_tried_again(tmp_path, model, images):
    first = journal(tmp_path, model)
    with pytest.raises(RuntimeError, match=r"^1 of 4 files were skipped: \S+b.png is damaged; the others are"):
        run(first, first.remaining(images), broken="b")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [Path(entry["image"]).stem for entry in summary["failed"]] == ["b"]
    assert summary["written"] == 3
    assert names(journal(tmp_path, model).remaining(images)) == "b"


def test_a_line_that_a_kill_cut_off_does_no_harm(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images))
    file = tmp_path / "out" / "journal_0.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    second = journal(tmp_path, model)
    assert run(second, second.remaining(images)) == ["d"]
    assert journal(tmp_path, model).remaining(images) == []


def test_a_run_after_a_line_that_a_kill_cut_off_keeps_its_own_settings(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images[:1]))
    file = tmp_path / "out" / "journal_0.jsonl"
    file.write_bytes(file.read_bytes()[:-20])  # so that nothing is done, and others may write here
    second = journal(tmp_path, model, mpp=2.0)
    run(second, second.remaining(images))
    assert journal(tmp_path, model, mpp=2.0).remaining(images) == []
    with pytest.raises(ValueError, match="holds results of another inference"):
        journal(tmp_path, model).remaining(images)


@pytest.mark.parametrize(
    "line",
    [
        *(b"3", b"null", b"[]", b"{}", b'"image"', b"\xff\xfe", b'{"image": "\xff"}', b"[" * 100_000, b"1" * 5000),
        *(b'{"settings": 3}', b'{"begun": 1, "files": []}', b'{"begun": "a", "files": 3}', b'{"begun": "a"}'),
        *(b'{"image": "a", "state": [], "files": [3]}', b'{"image": "a", "files": []}', b'{"image": null}'),
        b'{"image": "a", "state": [1, 2], "files": ["' + b"n" * 5000 + b'", "\\u0000"]}',
    ],
    ids=lambda line: line[:30].decode(errors="replace"),
)
def test_a_line_of_a_wrong_shape_does_no_harm(tmp_path, model, images, line):
    first = journal(tmp_path, model)
    run(first, first.remaining(images[:3]))
    file = tmp_path / "out" / "journal_0.jsonl"
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], line, *lines[1:], line, b""]))
    second = journal(tmp_path, model)
    assert run(second, second.remaining(images)) == ["d"]


def test_a_torn_first_line_to_which_the_next_is_glued_costs_one_more_run(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images))
    file = tmp_path / "out" / "journal_0.jsonl"
    settings, *lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(settings[:20] + b"".join(lines))
    second = journal(tmp_path, model)
    assert run(second, second.remaining(images)) == ["a", "b", "c", "d"], (
        "nobody knows with which settings they were made"
    )
    assert journal(tmp_path, model).remaining(images) == []
    file.write_bytes(file.read_bytes().replace(b'["a_mask.png"]}\n', b'["a_ma', 1))  # two records in one line
    assert journal(tmp_path, model).remaining(images) == []


def test_a_missing_picture_is_never_done(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images))
    os.remove(images[3][IMAGE])
    assert names(journal(tmp_path, model).remaining(images)) == "d"


def test_results_do_not_go_among_the_pictures(tmp_path, model, images):
    among = InferenceLog(tmp_path / "images", model, SETTINGS)
    with pytest.raises(ValueError, match="is the folder of the images; give another --output_dir"):
        among.remaining(images)


def test_a_file_of_somebody_is_not_replaced(tmp_path, model, images):
    (tmp_path / "out").mkdir()
    drawn = tmp_path / "out" / "c_mask.png"
    drawn.write_bytes(b"drawn by hand")
    (tmp_path / "out" / "c_mask_of_another_program.png").write_bytes(b"not in the way")
    with pytest.raises(ValueError, match=r"c_mask.png would be replaced, but it was not written by.*--overwrite True"):
        journal(tmp_path, model).remaining(images)
    run(journal(tmp_path, model), journal(tmp_path, model).remaining(images[:2]))  # a journal does not account for c
    with pytest.raises(ValueError, match=r"c_mask.png would be replaced"):
        journal(tmp_path, model).remaining(images)
    assert drawn.read_bytes() == b"drawn by hand"
    repeated = journal(tmp_path, model, "True")
    assert run(repeated, repeated.remaining(images)) == ["a", "b", "c", "d"]
    assert drawn.read_bytes() == b"mask"


def test_a_summary_of_somebody_is_not_replaced(tmp_path, model, images):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("of another program")
    with pytest.raises(ValueError, match=r"summary.json would be replaced"):
        journal(tmp_path, model).remaining(images)


def test_a_result_of_another_folder_is_not_replaced(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images))
    other = tmp_path / "others" / "b.png"
    other.parent.mkdir()
    other.write_bytes(b"another b")
    with pytest.raises(ValueError, match=rf"b_mask.png would be replaced, .* of another image, {images[1][IMAGE]}"):
        journal(tmp_path, model).remaining([{IMAGE: str(other)}])


def test_a_file_that_a_killed_run_left_is_its_own(tmp_path, model, images):
    first = journal(tmp_path, model)
    with pytest.raises(KeyboardInterrupt):
        run(first, first.remaining(images), stop_writing="b")
    assert (tmp_path / "out" / "b_mask.png").exists()
    second = journal(tmp_path, model)
    assert run(second, second.remaining(images)) == ["b", "c", "d"]


def test_a_mask_drawn_for_a_picture_that_failed_is_not_replaced(tmp_path, model, images):
    first = journal(tmp_path, model)
    with pytest.raises(RuntimeError, match="were skipped"):
        run(first, first.remaining(images), broken="b")
    (tmp_path / "out" / "b_mask.png").write_bytes(b"drawn by hand")
    with pytest.raises(ValueError, match=r"b_mask.png would be replaced"):
        journal(tmp_path, model).remaining(images)


def test_files_by_halves_of_a_killed_run_are_removed_by_the_next(tmp_path, model, images):
    first = journal(tmp_path, model)
    run(first, first.remaining(images[:3]))
    halves = [".a_mask.png.0a1b2c3d.partial.png", ".d_mask.png.0a1b2c3d.partial"]
    others = [".e_mask.png.0a1b2c3d.partial", ".hidden.partial"]
    for name in (*halves, *others):
        (tmp_path / "out" / name).write_bytes(b"half")
    second = journal(tmp_path, model)
    run(second, second.remaining(images))
    assert sorted(path.name for path in (tmp_path / "out").glob(".*")) == others


def evaluate(folder, images, overwrite=False) -> None:
    """Write the masks of an evaluation."""

    def step(_, entry):
        (folder / "masks").mkdir(exist_ok=True)
        (folder / "masks" / f"{Path(entry[IMAGE]).stem}_mask.png").write_bytes(b"mask")
        (folder / "metrics.csv").write_bytes(b"scores")

    engine = Engine(step)
    EvaluationFiles(folder, images, overwrite, ["metrics.csv"]).attach(engine)
    engine.run(images)


def test_an_evaluation_replaces_its_own_masks_and_no_others(tmp_path, images):
    evaluate(tmp_path / "scores", images[:2])
    evaluate(tmp_path / "scores", images[:2])
    drawn = tmp_path / "scores" / "masks" / "c_mask.png"
    drawn.write_bytes(b"drawn by hand")
    with pytest.raises(
        ValueError, match=r"masks/c_mask.png would be replaced, but it was not written by an evaluation"
    ):
        evaluate(tmp_path / "scores", images)
    assert drawn.read_bytes() == b"drawn by hand"
    evaluate(tmp_path / "scores", images, "True")
    assert drawn.read_bytes() == b"mask"
    evaluate(tmp_path / "scores", images)


def test_an_evaluation_does_not_replace_a_table_of_somebody(tmp_path, images):
    table = tmp_path / "scores" / "metrics.csv"
    table.parent.mkdir()
    table.write_bytes(b"of another program")
    with pytest.raises(ValueError, match=r"metrics.csv would be replaced, but it was not written by an evaluation"):
        evaluate(tmp_path / "scores", images)
    assert [path.name for path in table.parent.iterdir()] == ["metrics.csv"]
    assert table.read_bytes() == b"of another program"
    evaluate(tmp_path / "scores", images, "True")
    evaluate(tmp_path / "scores", images)
    assert table.read_bytes() == b"scores"


def test_the_config_of_an_evaluation_checks_its_folder_before_it_writes(repository_root):
    config = json.loads((repository_root / "configs" / "evaluate.json").read_text(encoding="utf-8"))
    handlers = [handler["_target_"].rpartition(".")[2] for handler in config["validate#handlers"]]
    assert handlers[:3] == ["ModelCheckpointLoader", "EvaluationFiles", "OutputCheck"], "before any file is written"
    (own,) = [handler["files"] for handler in config["validate#handlers"] if "EvaluationFiles" in handler["_target_"]]
    assert own == ["metrics.csv", "per_image.csv", "calibration.csv", "montage.png"]
