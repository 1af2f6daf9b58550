"""The check of a data list: each kind of fault is found and reported with the right message."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.data_preparation.glas import prepare_glas
from scripts.dataset_check.checked_list import CheckedEntry, CheckedList, Finding, check_list
from scripts.dataset_check.files import SPECK, ImageFacts, inspect_image, inspect_label
from scripts.dataset_check.findings import find_faults
from scripts.dataset_check.pictures import to_show
from scripts.dataset_check.report import as_data, table, verdict

SIZE = (48, 64)
COUNTS = {"training": 3, "unlabeled": 2, "validation": 2, "test": 2}
Parts = dict[str, Any]


def glands() -> np.ndarray:
    """Two glands that touch, numbered 1 and 2."""
    label = np.zeros(SIZE, np.uint8)
    label[5:25, 8:30] = 1
    label[25:40, 8:50] = 2
    return label


def save(pixels: np.ndarray, path: Path, **options: Any) -> None:
    Image.fromarray(pixels).save(path, **options)


def noise(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def make(folder: Path) -> Parts:
    """Make a valid data folder and return its list."""
    parts: Parts = {}
    number = 0
    for part, count in COUNTS.items():
        parts[part] = []
        for _ in range(count):
            save(noise(number), folder / f"image_{number}.png")
            entry: dict[str, Any] = {"image": f"image_{number}.png", "patient": number, "mpp": 1.0}
            if part != "unlabeled":
                save(glands(), folder / f"label_{number}.png")
                entry["label"] = f"label_{number}.png"
            parts[part].append(entry)
            number += 1
    return parts


def check(folder: Path, content: Any, **options: Any) -> tuple[CheckedList, list[Finding]]:
    """Write the list and check it."""
    path = folder / "list.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    checked = check_list(path, **options)
    return checked, find_faults(checked, crop=(32, 32), pixel_size=1.0)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return make(tmp_path)


def test_a_clean_list_has_no_finding(tmp_path: Path, parts: Parts) -> None:
    checked, findings = check(tmp_path, parts)
    assert findings == []
    assert verdict(checked, findings) == "list.json has no problem and 0 warnings; it can be used"
    data = as_data(checked, findings)
    assert data["usable"]
    assert [data["parts"][part]["images"] for part in COUNTS] == list(COUNTS.values())
    assert data["all"]["glands"] == {"min": 2, "median": 2, "max": 2, "total": 14}
    assert data["all"]["readings"] == {"instances": 7}
    assert data["all"]["foreground"]["max"] == pytest.approx((20 * 22 + 15 * 42) / (48 * 64), abs=1e-6)


def missing_image(folder: Path, parts: Parts) -> None:
    (folder / "image_1.png").unlink()


def missing_mask(folder: Path, parts: Parts) -> None:
    (folder / "label_1.png").unlink()


def truncated(folder: Path, parts: Parts) -> None:
    file = folder / "image_1.png"
    file.write_bytes(file.read_bytes()[:-2000])


def no_picture(folder: Path, parts: Parts) -> None:
    (folder / "label_1.png").write_text("not a picture", encoding="utf-8")


def colors(folder: Path, parts: Parts) -> None:
    save(noise(99), folder / "label_1.png")


def smoothed(folder: Path, parts: Parts) -> None:
    save(np.random.default_rng(0).integers(0, 9, SIZE, np.uint8), folder / "label_1.png")


def other_size(folder: Path, parts: Parts) -> None:
    save(glands()[:, :60], folder / "label_1.png")


def turned(folder: Path, parts: Parts) -> None:
    exif = Image.Exif()
    exif[274] = 6
    save(noise(1), folder / "image_1.jpg", exif=exif)
    parts["training"][1]["image"] = "image_1.jpg"
    save(glands(), folder / "label_1.png")


def same_file(folder: Path, parts: Parts) -> None:
    parts["validation"][0] |= {"image": "image_1.png"}


def same_file_by_link(folder: Path, parts: Parts) -> None:
    (folder / "linked.png").symlink_to(folder / "image_1.png")
    parts["unlabeled"][0]["image"] = "linked.png"
    parts["test"][0]["image"] = "image_1.png"


def chosen_and_tested(folder: Path, parts: Parts) -> None:
    parts["test"].append(dict(parts["validation"][0]))


def same_content(folder: Path, parts: Parts) -> None:
    save(noise(3), folder / "copy.bmp")
    parts["validation"][1]["image"] = "copy.bmp"


def same_patient(folder: Path, parts: Parts) -> None:
    parts["validation"][1]["patient"] = "3"


def label_under_unlabeled(folder: Path, parts: Parts) -> None:
    parts["unlabeled"][1]["label"] = "label_0.png"


def no_label(folder: Path, parts: Parts) -> None:
    del parts["test"][1]["label"]


def outside(folder: Path, parts: Parts) -> None:
    parts["test"][1]["image"] = "../image_8.png"


def bad_mpp(folder: Path, parts: Parts) -> None:
    parts["test"][1]["mpp"] = -1


def bad_entry(folder: Path, parts: Parts) -> None:
    parts["test"].append("image_8.png")


def no_list(folder: Path, parts: Parts) -> None:
    parts["unlabeled"] = {"image": "image_3.png"}


def no_training(folder: Path, parts: Parts) -> None:
    del parts["training"]


PROBLEMS: list[tuple[Callable[[Path, Parts], None], str, str]] = [
    (missing_image, "missing_file", "1 file missing (image_1.png); add them"),
    (missing_mask, "missing_file", "1 file missing (label_1.png)"),
    (truncated, "unreadable_file", "1 file that cannot be decoded: image_1.png is not a readable picture"),
    (no_picture, "unreadable_file", "label_1.png is not a readable PNG, JPEG, BMP or TIFF"),
    (colors, "wrong_values", "1 file with invalid values: label_1.png: a mask must have one channel"),
    (smoothed, "wrong_values", "as in a mask smoothed by JPEG or resizing"),
    (other_size, "size_mismatch", "1 mask of another size than the image (label_1.png 60 x 48 px for 64 x 48 px)"),
    (turned, "size_mismatch", "(label_1.png 64 x 48 px for 48 x 64 px, rotated by an orientation tag)"),
    (same_file, "shared_image", "1 image both in training and in validation (image_1.png)"),
    (same_file_by_link, "shared_image", "1 image both in unlabeled and in test (linked.png)"),
    (chosen_and_tested, "shared_image", "1 image both in validation and in test (image_5.png)"),
    (same_content, "shared_content", "1 image of unlabeled under another name in validation (image_3.png is copy.bmp)"),
    (same_patient, "shared_patient", "1 patient both in validation and in training or unlabeled (3)"),
    (label_under_unlabeled, "label_under_unlabeled", "1 image under unlabeled with a mask (image_4.png)"),
    (no_label, "missing_label", "1 image without a mask (image_8.png); add masks, or move them to unlabeled"),
    (outside, "outside_folder", "1 path outside the data folder (../image_8.png)"),
    (bad_mpp, "bad_value", "1 wrong value: entry 1 of test has the mpp -1; give the width of a pixel in um"),
    (bad_entry, "bad_entry", "1 invalid entry (entry 2 of test has no image path)"),
    (no_list, "bad_entry", "unlabeled is not a list of entries"),
    (no_training, "no_training", "no image under training"),
]


@pytest.mark.parametrize(("spoil", "kind", "message"), PROBLEMS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_problem_is_found(tmp_path: Path, parts: Parts, spoil: Any, kind: str, message: str) -> None:
    spoil(tmp_path, parts)
    checked, findings = check(tmp_path, parts)
    sentences = [finding.sentence for finding in findings if finding.problem and finding.kind == kind]
    assert any(message in sentence for sentence in sentences), [finding.sentence for finding in findings]
    assert kind in verdict(checked, findings)
    assert not as_data(checked, findings)["usable"]


def test_all_problems_are_reported_at_once(tmp_path: Path, parts: Parts) -> None:
    for spoil in (no_label, bad_mpp, missing_image, truncated_of_test, same_patient):
        spoil(tmp_path, parts)
    save(glands()[:, :60], tmp_path / "label_0.png")
    _, findings = check(tmp_path, parts)
    assert {finding.kind for finding in findings if finding.problem} == {
        *("missing_label", "bad_value", "missing_file", "size_mismatch", "unreadable_file", "shared_patient")
    }


def truncated_of_test(folder: Path, parts: Parts) -> None:
    file = folder / "image_7.png"
    file.write_bytes(file.read_bytes()[:100])


def test_problems_come_before_warnings(tmp_path: Path, parts: Parts) -> None:
    for spoil in (small, specks, no_label, no_training):
        spoil(tmp_path, parts)
    _, findings = check(tmp_path, parts)
    assert [finding.problem for finding in findings] == [True, True, False]


def test_each_fault_is_reported_once(tmp_path: Path, parts: Parts) -> None:
    same_file(tmp_path, parts)
    parts["test"][0]["patient"] = parts["validation"][0]["patient"] = 1
    _, findings = check(tmp_path, parts)
    assert [finding.kind for finding in findings] == ["shared_image", "shared_patient", "test_patient_learned"]


def test_the_rest_of_an_entry_with_a_bad_value_is_used(tmp_path: Path, parts: Parts) -> None:
    bad_mpp(tmp_path, parts)
    checked, _ = check(tmp_path, parts)
    entry = checked.part("test")[1]
    assert entry.image is not None
    assert entry.label is not None
    assert entry.known == {"patient": "8"}


def both_streams(folder: Path, parts: Parts) -> None:
    parts["unlabeled"].append({key: value for key, value in parts["training"][0].items() if key != "label"})


def copy_in_part(folder: Path, parts: Parts) -> None:
    shutil.copy(folder / "image_3.png", folder / "image_4.png")


def twice_in_part(folder: Path, parts: Parts) -> None:
    parts["unlabeled"].append(parts["unlabeled"][0])


def known_patients(folder: Path, parts: Parts) -> None:
    parts["test"][0]["patient"] = 4
    parts["test"][1]["patient"] = 6


def small(folder: Path, parts: Parts) -> None:
    parts["test"][0]["mpp"] = 0.5


def unknown_mpp(folder: Path, parts: Parts) -> None:
    parts["test"][0]["mpp"] = None


def odd_mpp(folder: Path, parts: Parts) -> None:
    parts["test"][0]["mpp"] = 90


def empty(folder: Path, parts: Parts) -> None:
    save(np.zeros(SIZE, np.uint8), folder / "label_0.png")


def full(folder: Path, parts: Parts) -> None:
    save(np.ones(SIZE, np.uint8), folder / "label_0.png")


def one_number(folder: Path, parts: Parts) -> None:
    label = np.zeros(SIZE, np.uint8)
    label[5:15, 5:15] = label[30:40, 5:15] = 1
    save(label, folder / "label_0.png")


def specks(folder: Path, parts: Parts) -> None:
    label = glands()
    label[45:47, 60:62] = 3
    save(label, folder / "label_0.png")


def plain_masks(folder: Path, parts: Parts) -> None:
    for file in folder.glob("label_*.png"):
        save((glands() > 0).astype(np.uint8) * 255, file)


def oriented(folder: Path, parts: Parts) -> None:
    exif = Image.Exif()
    exif[274] = 3
    save(noise(3), folder / "image_3.png", exif=exif)


def one_color(folder: Path, parts: Parts) -> None:
    for number in (0, 5):
        save(np.full((*SIZE, 3), 243, np.uint8), folder / f"image_{number}.png")


def no_validation(folder: Path, parts: Parts) -> None:
    del parts["validation"]


def misspelled(folder: Path, parts: Parts) -> None:
    parts["val"] = parts["validation"]


WARNINGS: list[tuple[Callable[[Path, Parts], None], str, str]] = [
    (both_streams, "labeled_and_unlabeled", "1 image both in training and in unlabeled (image_0.png)"),
    (copy_in_part, "duplicate_content", "1 image of unlabeled under another name in it (image_4.png is image_3.png)"),
    (twice_in_part, "duplicate_image", "1 image twice in unlabeled (image_3.png)"),
    (
        known_patients,
        "test_patient_learned",
        "1 of 2 test images of patients that are also in training or unlabeled (4)",
    ),
    (known_patients, "test_patient_validated", "1 of 2 test images of patients that are also in validation (6)"),
    (small, "small_image", "1 image smaller at 1 um/px than a crop of 32 x 32 px (image_7.png: 32 x 24 px)"),
    (unknown_mpp, "unknown_mpp", "1 of 9 images without um/px (image_7.png)"),
    (odd_mpp, "odd_mpp", "1 image with unusual um/px (image_7.png: 90)"),
    (empty, "empty_mask", "1 mask with background only (label_0.png)"),
    (full, "full_mask", "1 mask without background (label_0.png)"),
    (one_number, "split_numbers", "1 mask with one number on separate pieces (label_0.png: 1 number, 2 pieces)"),
    (specks, "specks", f"1 speck of {SPECK} px or less in 1 mask (label_0.png: 1)"),
    (plain_masks, "not_numbered", "7 masks without instance numbers"),
    (oriented, "orientation", "1 file with an orientation tag (image_3.png: 3)"),
    (one_color, "one_color", "2 images of one color (image_0.png, image_5.png)"),
    (no_validation, "no_validation", "no image under validation: no checkpoint can be chosen"),
    (misspelled, "unknown_part", "'val' with entries that are not used"),
]


@pytest.mark.parametrize(("spoil", "kind", "message"), WARNINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_warning_is_found(tmp_path: Path, parts: Parts, spoil: Any, kind: str, message: str) -> None:
    spoil(tmp_path, parts)
    checked, findings = check(tmp_path, parts)
    assert not [finding.sentence for finding in findings if finding.problem]
    assert [message in finding.sentence for finding in findings if finding.kind == kind] == [True]
    assert message in " ".join(table(checked, findings).split())


def test_classes_are_not_split_numbers(tmp_path: Path, parts: Parts) -> None:
    one_number(tmp_path, parts)
    for options, content in (({"classes": 3}, parts), ({}, {**parts, "labels": {"0": "a", "1": "b", "2": "c"}})):
        checked, findings = check(tmp_path, content, **options)
        assert findings == []
        assert checked.classes == 3
        data = as_data(checked, findings)
        assert data["all"]["readings"] == {"classes": 7}
        assert data["all"]["glands"] is None
    _, findings = check(tmp_path, parts, classes=2)
    assert [(finding.kind, len(finding.cases)) for finding in findings] == [("wrong_values", 6)]


def test_glands_of_masks_without_numbers_are_pieces(tmp_path: Path, parts: Parts) -> None:
    plain_masks(tmp_path, parts)
    one_number(tmp_path, parts)
    checked, findings = check(tmp_path, parts)
    assert [finding.kind for finding in findings] == ["not_numbered"]
    data = as_data(checked, findings)
    assert data["all"]["glands_are"] == "pieces"
    assert data["all"]["glands"]["total"] == 8
    assert data["all"]["highest_value"] == 255


def test_glands_of_numbered_masks_are_numbers(tmp_path: Path, parts: Parts) -> None:
    one_number(tmp_path, parts)
    data = as_data(*check(tmp_path, parts))
    assert data["all"]["glands_are"] == "numbers"
    assert (data["all"]["glands"]["total"], data["all"]["pieces"]) == (13, 14)


def test_conversions_are_counted(tmp_path: Path, parts: Parts) -> None:
    for number in (0, 1, 3):
        save(noise(number)[..., 0], tmp_path / f"image_{number}.png")
    checked, findings = check(tmp_path, parts)
    assert as_data(checked, findings)["parts"]["training"]["image_conversions"] == {"gray repeated to RGB": 2}
    assert "- 3 images: gray repeated to RGB" in table(checked, findings).splitlines()


def test_each_file_is_decoded_once_and_progress_is_reported(tmp_path: Path, parts: Parts) -> None:
    both_streams(tmp_path, parts)
    calls: list[tuple[int, int]] = []
    check(tmp_path, parts, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 16) for done in range(1, 17)]


def test_data_does_not_depend_on_the_number_of_workers(tmp_path: Path, parts: Parts) -> None:
    texts = {json.dumps(as_data(*check(tmp_path, parts, workers=workers)), sort_keys=True) for workers in (1, 2, 5)}
    assert len(texts) == 1
    assert json.loads(texts.pop())["images"][0]["image_facts"]["size"] == [64, 48]


def test_an_interrupt_does_not_wait_for_remaining_files(
    tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    stopped = threading.Event()

    def slow(path: str) -> ImageFacts:
        opened.append(path)
        if len(opened) > 1:
            assert stopped.wait(60)
        return ImageFacts(path)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(False, cancel_futures=cancel_futures)
            stopped.set()
            super().shutdown(wait)

    monkeypatch.setattr("scripts.dataset_check.checked_list.inspect_image", slow)
    monkeypatch.setattr("scripts.dataset_check.checked_list.ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        check(tmp_path, parts, workers=1, progress=stop)
    assert 1 <= len(opened) <= 2 < sum(COUNTS.values())


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ("[]", "holds a list"), ('{"a": 1}', "has none of training")]
)
def test_a_file_that_is_not_a_data_list_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        check_list(tmp_path / "list.json")


def test_a_wrong_path_names_the_available_lists(tmp_path: Path, parts: Parts) -> None:
    check(tmp_path, parts)
    with pytest.raises(ValueError, match=r"is a folder; give the path of a data list \(it holds list.json\)"):
        check_list(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no data list .*other.json; .* holds list.json"):
        check_list(tmp_path / "other.json")


def test_the_same_picture_has_the_same_digest_whatever_its_format(tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tif"):
        save(noise(0), tmp_path / f"a.{suffix}")
    save(noise(0).reshape(64, 48, 3), tmp_path / "same_bytes_of_another_size.png")
    digests = Counter(inspect_image(str(file)).digest for file in tmp_path.iterdir())
    assert sorted(digests.values()) == [1, 3]


def test_facts_of_a_mask(tmp_path: Path) -> None:
    label = np.zeros((40, 60), np.int32)
    label[2:12, 2:12] = 70000
    label[12:20, 12:20] = 70000  # touches by a corner: one piece
    label[30:35, 2:7] = 9
    label[30:35, 20:30] = 9
    save(label, tmp_path / "label.tif")
    facts = inspect_label(str(tmp_path / "label.tif"))
    assert (facts.numbers, facts.pieces, facts.split, facts.specks) == (2, 3, 1, 1)
    assert (facts.highest, facts.reading, facts.size) == (70000, "instances", (40, 60))
    assert facts.foreground == pytest.approx((100 + 64 + 25 + 50) / 2400)


def test_an_image_with_an_unusable_mask_is_shown_without_mask(tmp_path: Path, parts: Parts) -> None:
    other_size(tmp_path, parts)
    missing_image(tmp_path, {})
    (tmp_path / "image_1.png").write_bytes((tmp_path / "image_0.png").read_bytes())
    truncated_of_test(tmp_path, parts)
    checked, _ = check(tmp_path, parts)
    shown = to_show(checked, "training")
    assert [name for name, _, _ in shown] == ["image_0.png", "image_1.png", "image_2.png"]
    assert [read()[1] is None for _, read, _ in shown] == [False, True, False]
    assert shown[0][2] == "64 x 48 px   2 glands   35%"
    assert len(to_show(checked, "test")) == 1


def test_lines_of_the_table_fit(tmp_path: Path, parts: Parts) -> None:
    for part in parts.values():
        for number, entry in enumerate(part):
            entry |= {"grade": "g" * 60, "domain": f"domain of a long name, number {number}"}
    small(tmp_path, parts)
    checked, findings = check(tmp_path, parts)
    lines = table(checked, findings).splitlines()
    assert max(map(len, lines[2:])) <= 100  # the first names the folder
    assert any(line.startswith("grade ggg") and "..." in line for line in lines)


def of_glas(entries: list[CheckedEntry], start: str) -> list[CheckedEntry]:
    return [entry for entry in entries if Path(entry.image_path).name.startswith(start)]


def test_glas_has_the_published_properties(glas_dir: Path, tmp_path: Path) -> None:
    prepare_glas(glas_dir, tmp_path / "glas")
    checked = check_list(tmp_path / "glas" / "authors_100_seed0.json")
    findings = {finding.kind: finding for finding in find_faults(checked, crop=(256, 256), pixel_size=1.0)}
    assert [len(of_glas(checked.entries, start)) for start in ("train_", "testA_", "testB_")] == [85, 60, 20]
    data = as_data(checked, list(findings.values()))
    assert data["usable"]
    assert data["all"]["glands"]["total"] == 1530
    assert findings.keys() == {"test_patient_learned", "split_numbers", "specks", "no_validation"}
    assert findings["test_patient_learned"].sentence.startswith("79 of 80 test images")
    split = [case.split(":")[0] for case in findings["split_numbers"].cases]
    assert split == [f"label/testB_{number}.png" for number in (3, 11, 18, 19)]
    assert all(": 1 number," in case for case in findings["split_numbers"].cases)
