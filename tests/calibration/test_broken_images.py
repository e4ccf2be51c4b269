"""Broken folders: what is skipped, what is refused, and what it says."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from waveedge.calibration import open_images
from waveedge.calibration.decode import read
from waveedge.calibration.folders import built_in_photos
from waveedge.errors import ImageError
from waveedge.spec import ModelSpec

SPEC = ModelSpec(family="custom", input_size=(32, 48))
PHOTOS = built_in_photos()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.target, "it ran"))


def huge_png() -> bytes:
    """A small file that claims 30000 x 30000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


FLOATS = np.zeros((3, 32, 48), np.float32)
BROKEN: dict[str, tuple[bytes, str]] = {
    "zero.jpg": (b"", "empty"),
    "half.jpg": (PHOTOS[0].read_bytes()[:9000], "cannot be read"),
    "text.png": (b"this is no picture", "not an image"),
    "notes.txt": (b"labels: cat, dog", "not an image"),
    "huge.png": (huge_png(), "million pixels"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", "not an image"),
    "garbage.npy": (b"garbage", "not a .npy array"),
    "cut.npy": (npy(FLOATS)[:2000], "cannot be read"),
    "objects.npy": (npy(np.array([{"a": 1}], dtype=object)), "never loaded"),
    "archive.npy": (b"PK\x03\x04 not an array", "not a .npy array"),
    "garbage.npz": (b"garbage", "not a whole .npz"),
    "nan.npy": (npy(np.where(np.arange(48) == 7, np.nan, FLOATS)), "NaN"),
    "inf.npy": (npy(FLOATS + np.inf), "NaN or infinite"),
    "overflow.npy": (npy(np.full((3, 32, 48), 1e300)), "NaN or infinite"),
    "small.npy": (npy(np.zeros((3, 8, 8), np.float32)), r"\(3, 8, 8\)"),
    "channels-last.npy": (npy(np.zeros((32, 48, 3), np.float32)), r"\(32, 48, 3\)"),
    "labels.npy": (npy(np.arange(10)), "int64"),
    "complex.npy": (npy(FLOATS.astype(np.complex64)), "complex64"),
    "five-d.npy": (npy(np.zeros((1, 1, 3, 32, 48), np.float32)), "its shape"),
    "none.npy": (npy(np.zeros((0, 3, 32, 48), np.float32)), "empty"),
    "flat.npy": (npy(np.zeros((9,), np.uint8)), "its shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_file_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        open_images(tmp_path, spec=SPEC)
    assert name in caught.value.what
    assert "--calib" in caught.value.hint


def test_mixed_folder_goes_on_without_the_broken(tmp_path: Path) -> None:
    for name, (content, _) in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    nested = tmp_path / "a" / "b c"
    nested.mkdir(parents=True)
    for path in PHOTOS[:6]:
        (nested / path.name.upper()).write_bytes(path.read_bytes())
    images = open_images(tmp_path, spec=SPEC)
    assert len(images.calibration) + len(images.held_out) == 6
    assert {path.name for path, _ in images.skipped} == set(BROKEN)
    assert f"{len(BROKEN)} skipped" in images.describe()
    for path, reason in images.skipped:
        assert reason
        assert "\n" not in reason, path


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for path in PHOTOS[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "._photo.jpg").write_bytes(b"resource fork")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / PHOTOS[4].name).write_bytes(PHOTOS[4].read_bytes())
    images = open_images(tmp_path, spec=SPEC)
    assert images.found == 3
    assert images.skipped == []


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for path in PHOTOS[:4]:
        (real / path.name).write_bytes(path.read_bytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "everything").symlink_to("/")
    (folder / "there").symlink_to(real)
    (folder / "self.jpg").symlink_to(folder / "self.jpg")
    (folder / "dangling.jpg").symlink_to(tmp_path / "absent.jpg")
    for path in PHOTOS[4:7]:  # a link to a file is that file
        (real / path.name).write_bytes(path.read_bytes())
        (folder / path.name).symlink_to(real / path.name)
    images = open_images(folder, spec=SPEC)
    assert images.found == 3
    reasons = {path.name: reason for path, reason in images.skipped}
    assert set(reasons) == {"everything", "there", "self.jpg", "dangling.jpg"}
    assert "not followed" in reasons["everything"]
    # What the user names is meant.
    (tmp_path / "link").symlink_to(real)
    assert open_images(tmp_path / "link", spec=SPEC).found == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="not a regular file") as caught:
        open_images(tmp_path, spec=SPEC)
    assert "pipe.jpg" in caught.value.what
    assert "endless.png" in caught.value.what
    with pytest.raises(ImageError, match="neither a folder nor"):
        open_images(tmp_path / "pipe.jpg", spec=SPEC)
    with pytest.raises(ImageError, match="not a regular file"):
        open_images([tmp_path / "pipe.jpg"], spec=SPEC)


def test_empty_missing_and_only_hidden(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no files"):
        open_images(tmp_path, spec=SPEC)
    (tmp_path / ".hidden.jpg").write_bytes(b"x")
    with pytest.raises(ImageError, match="no files"):
        open_images(tmp_path, spec=SPEC)
    with pytest.raises(ImageError, match="No such file"):
        open_images(tmp_path / "absent", spec=SPEC)
    with pytest.raises(ImageError, match="too long"):
        open_images(tmp_path / ("x" * 5000), spec=SPEC)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    folder = tmp_path / "images"
    folder.mkdir()
    bomb = np.array([Bomb(target)], dtype=object)
    np.save(folder / "a.npy", bomb, allow_pickle=True)
    np.savez(folder / "b.npz", x=bomb)
    (folder / "c.npy").write_bytes(pickle.dumps(Bomb(target)))
    (folder / "d.jpg").write_bytes(pickle.dumps(Bomb(target)))
    with zipfile.ZipFile(folder / "e.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Bomb(target)))
    with pytest.raises(ImageError, match="never loaded"):
        open_images(folder, spec=SPEC)
    assert not target.exists()


def test_archive_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waveedge.calibration.decode._MOST_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((3, 1000, 1000), np.float32))
    with pytest.raises(ImageError, match="unpacks to"):
        open_images(tmp_path, spec=SPEC)


def test_one_sick_row_does_not_hide_in_a_stack(tmp_path: Path) -> None:
    stack = np.zeros((10, 3, 32, 48), np.float32)
    stack[7, 0, 0, 0] = np.nan
    np.save(tmp_path / "stack.npy", stack)
    with pytest.raises(ImageError, match="NaN"):
        open_images(tmp_path, spec=SPEC)


@pytest.mark.skipif(os.name != "posix", reason="names are text on this system")
def test_a_name_that_is_no_text_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(ImageError) as caught:
        open_images(tmp_path, spec=SPEC)
    assert "caf" in caught.value.what.encode("utf-8").decode()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    source=st.sampled_from(["photo.jpg", "photo.png", "array.npy", "array.npz", "photo.gif"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 10**6),
)
def test_damaged_files_never_raise(
    tmp_path: Path, source: str, flips: list[tuple[int, int]], cut: int
) -> None:
    small = Image.open(PHOTOS[0]).resize((48, 32))
    buffer = io.BytesIO()
    if source.endswith("npy"):
        np.save(buffer, FLOATS)
    elif source.endswith("npz"):
        np.savez(buffer, x=FLOATS)
    else:
        small.save(buffer, format={"jpg": "JPEG", "png": "PNG", "gif": "GIF"}[source[-3:]])
    data = bytearray(buffer.getvalue())
    for position, value in flips:
        # Headers are where damage does most.
        data[position % min(len(data), 400)] ^= value
    path = tmp_path / source
    path.write_bytes(bytes(data[: max(1, cut % (2 * len(data)))]))
    images, reasons = read(path, channels=3, size=(32, 48), most=4, seed=0)
    assert images or reasons
