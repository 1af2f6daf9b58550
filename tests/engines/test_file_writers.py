"""Files are written atomically, and errors name the file."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import SaveImage
from PIL import Image

from bundle.engines.file_writers import check_writable, save_whole, tensorboard_writer
from bundle.utils import atomic_path, remove_partials


def test_a_file_is_written_into_folders_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "content.pt"
    save_whole({"value": torch.arange(3)}, path)
    assert torch.load(path, weights_only=True)["value"].tolist() == [0, 1, 2]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "content.pt"
    save_whole({"value": 1}, path)

    def fail(content: Any, file: Any) -> None:
        file.write(b"half of")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_whole({"value": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]
    save_whole({"value": 3}, path)
    assert torch.load(path, weights_only=True) == {"value": 3}


def test_a_reader_of_the_old_file_keeps_it_whole(tmp_path: Path) -> None:
    """The new file replaces the old one and does not overwrite it."""
    path = tmp_path / "content.pt"
    save_whole({"value": 1}, path)
    with path.open("rb") as old:
        save_whole({"value": torch.zeros(1000)}, path)
        assert torch.load(old, weights_only=True) == {"value": 1}
    assert torch.load(path, weights_only=True)["value"].shape == (1000,)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Limit the size of files to 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_error_of_a_full_disk_names_the_file_and_nothing_is_left(tmp_path: Path, small_disk: None) -> None:
    """torch wraps the OSError in its own error, and a write does not name its file."""
    path = tmp_path / "content.pt"
    with pytest.raises(OSError, match="File too large") as caught:
        save_whole({"value": torch.zeros(10_000)}, path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="local object"):
        save_whole({"value": lambda: None}, tmp_path / "content.pt")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(tmp_path / "content.pt"):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_a_process_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    """For example in threads of a server."""
    path = tmp_path / "file"
    with atomic_path(path) as first, atomic_path(path) as other:
        first.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one", "it ended last"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_left_is_taken_away(tmp_path: Path) -> None:
    for name in (".content.pt.12.partial", ".content.pt.13.partial", ".other.pt.12.partial", "content.pt"):
        (tmp_path / name).touch()
    remove_partials(tmp_path / "content.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.pt.12.partial", "content.pt"]
    remove_partials(tmp_path / "nowhere" / "content.pt")


def test_a_folder_that_cannot_be_written_is_found_before_the_first_file(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file" / "folder")


def test_logs_of_tensorboard_are_written_to_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = tensorboard_writer(tmp_path / "run")
    folder.add_scalar("loss", 1.0)
    folder.close()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["tensorboard"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        tensorboard_writer(tmp_path / "file" / "run")


# Pictures


def writer(folder: Path) -> SaveImage:
    return SaveImage(
        folder,
        output_postfix="mask",
        output_ext=".png",
        output_dtype=np.uint8,
        scale=255,
        separate_folder=False,
        print_log=False,
        writer="bundle.engines.WholePictureWriter",
    )


@pytest.mark.parametrize(("width", "height"), [(5, 3), (1, 4), (4, 1), (1, 1)])
def test_a_mask_is_written_at_any_size(tmp_path: Path, width: int, height: int) -> None:
    """MONAI's writer squeezes a side of one pixel."""
    mask = (torch.arange(width * height).reshape(1, width, height) % 2).float()
    writer(tmp_path)(mask, {"filename_or_obj": "tile.png"})
    with Image.open(tmp_path / "tile_mask.png") as file:
        assert file.mode == "L"
        assert file.size == (width, height)
        assert np.array_equal(np.asarray(file).T, mask[0].numpy() * 255)
    assert [path.name for path in tmp_path.iterdir()] == ["tile_mask.png"]


def test_a_mask_on_a_full_disk_is_said_with_the_file_and_leaves_the_old_one(tmp_path: Path, small_disk: None) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "tile_mask.png")
    (tmp_path / f".tile_mask.png.{os.getpid() + 1}.partial.png").touch()  # of a run that was killed
    noise: Any = (torch.rand(1, 400, 400) > 0.5).float()
    with pytest.raises(RuntimeError, match=r"File too large: '.*tile_mask\.png'"):
        writer(tmp_path)(noise, {"filename_or_obj": "tile.png"})
    assert [path.name for path in tmp_path.iterdir()] == ["tile_mask.png"]
    with Image.open(tmp_path / "tile_mask.png") as file:
        assert file.size == (2, 2)
