"""Damaged and hostile image files, by the thousand: used, or refused in words.

``WAVEEDGE_FUZZ=20`` runs twenty times as many.
"""

from __future__ import annotations

import io
import os
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from waveedge.calibration import ImageSet, open_images
from waveedge.calibration.folders import built_in_photos
from waveedge.errors import ImageError
from waveedge.spec import ModelSpec

CASES = 3000 * int(os.environ.get("WAVEEDGE_FUZZ", "1"))
SIZE = (24, 32)
SPEC = ModelSpec(family="custom", input_size=SIZE)
GREY = SPEC.model_copy(update={"channels": 1})
SUFFIXES = ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "npy", "npz", "avif", "jp2")
HEADER = 256


def whole_files() -> list[tuple[str, bytes]]:
    """(suffix, content) of good files of every kind that is read."""
    photo = Image.open(built_in_photos()[0]).convert("RGB").resize((SIZE[1], SIZE[0]))
    found: list[tuple[str, bytes]] = []
    for suffix, format_, mode in (
        ("png", "PNG", "RGB"), ("png", "PNG", "P"), ("png", "PNG", "I;16"), ("jpg", "JPEG", "RGB"),
        ("jpg", "JPEG", "CMYK"), ("gif", "GIF", "P"), ("bmp", "BMP", "RGB"), ("tif", "TIFF", "RGB"),
        ("tif", "TIFF", "F"), ("ppm", "PPM", "RGB"), ("webp", "WEBP", "RGB"),
        ("avif", "AVIF", "RGB"), ("jp2", "JPEG2000", "RGB"),
    ):  # fmt: skip
        library = {"webp": "webp", "avif": "avif", "jp2": "jpg_2000"}.get(suffix)
        if library and not features.check(library):
            continue
        file = io.BytesIO()
        (photo.convert("L") if mode in ("I;16", "F") else photo).convert(mode).save(file, format_)
        found.append((suffix, file.getvalue()))
    pixels = np.asarray(photo)
    floats = pixels.transpose(2, 0, 1)[None] / 255
    for array in (pixels, floats, floats.astype(np.float16), floats.astype(">f4")):
        file = io.BytesIO()
        np.save(file, array)
        found.append(("npy", file.getvalue()))
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x=pixels, y=floats.astype(np.float32))
        found.append(("npz", file.getvalue()))
    return found


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        # Headers are where damage does most.
        reach = min(len(data), HEADER) if rng.random() < 0.7 else len(data)
        data[rng.randrange(reach)] ^= rng.randint(1, 255)


def remove(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.randint(1, 64))


def number(data: bytearray, rng: random.Random) -> None:
    """Write a number that sizes and offsets trip over."""
    value = rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    start = rng.randrange(min(len(data), HEADER))
    data[start : start + 4] = struct.pack(rng.choice(["<I", ">I"]), value)


def enlarge(data: bytearray, rng: random.Random) -> None:
    """Declare a picture, or an array, of enormous size, with checksums that are right."""
    extent = rng.choice([0, 8000, 60_000, 2**31 - 1])
    if data.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">II", extent, rng.choice([1, extent]))
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif b"NUMPY" in data:
        shape = rng.choice([f"({extent}, 3, 24, 32)", f"({extent}, {extent}, 3)", "()", "(-1, 3)"])
        array_header(data, rb"'shape': \([^)]*\)", f"'shape': {shape}")
    else:
        number(data, rng)


def retype(data: bytearray, rng: random.Random) -> None:
    """Declare an array of objects, records, text, dates, or of nothing known."""
    kind = rng.choice(["|O", "|S9", "<U4", "<c8", "<M8[s]", "|b1", "<f8", "<f2", "<i4", "zz", ""])
    array_header(data, rb"'descr': '[^']*'", f"'descr': '{kind}'")


def array_header(data: bytearray, pattern: bytes, text: str) -> None:
    """Replace a field of a .npy header, and keep its length."""
    match = re.search(pattern + rb"[^}]*} *\n", data)
    if match:
        new = re.sub(pattern, text.encode(), match[0]).rstrip()
        data[match.start() : match.end()] = new.ljust(len(match[0]) - 1) + b"\n"


def not_finite(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start : start + 8] = struct.pack("<d", rng.choice([np.nan, np.inf, -np.inf, 1e308]))


Mutation = Callable[[bytearray, random.Random], None]
MUTATIONS: tuple[Mutation, ...] = (
    cut, flip, flip, remove, insert, number, enlarge, retype, not_finite,
)  # fmt: skip


def outcome(folder: Path, spec: ModelSpec) -> str:
    try:
        images = open_images(folder, spec=spec, held_out=0, limit=4)
    except ImageError:
        return "refused"
    check(images, spec)
    return "used"


def check(images: ImageSet, spec: ModelSpec) -> None:
    assert images.describe()
    for image in images.calibration:
        assert image.shape == (1, spec.channels, *SIZE)
        assert np.isfinite(image).all()


def test_thousands_of_damaged_files(tmp_path: Path) -> None:
    rng = random.Random(2718)
    files = whole_files()
    counts: Counter[str] = Counter()
    for _ in range(CASES):
        suffix, content = rng.choice(files)
        data = bytearray(content)
        for mutate in rng.choices(MUTATIONS, k=rng.choice([1, 1, 2, 3])):
            if data:
                mutate(data, rng)
        if rng.random() < 0.05:
            suffix = rng.choice(SUFFIXES)
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(data)
        counts[outcome(tmp_path, rng.choice([SPEC, GREY]))] += 1
        path.unlink()
    print(f"{CASES} files: {dict(counts)}")
    # Damage that matters, and damage that does not.
    assert min(counts["refused"], counts["used"]) > CASES / 10


@pytest.mark.skipif(os.name != "posix", reason="this system has no such files")
def test_folders_of_all_kinds_of_files(tmp_path: Path) -> None:
    rng = random.Random(31415)
    files = whole_files()
    for case in range(30 * CASES // 3000):
        folder = tmp_path / str(case)
        folder.mkdir()
        for index in range(rng.randint(0, 8)):
            odd(folder / f"{index}.{rng.choice(SUFFIXES)}", rng, rng.choice(files)[1])
        assert outcome(folder, SPEC) in ("used", "refused")


def odd(path: Path, rng: random.Random, content: bytes) -> None:
    """Make a file, or what is none."""
    kind = rng.randrange(8)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(rng.choice(["/", "/dev/zero", path, path.with_name("absent"), "."]))
    elif kind == 2:
        path.mkdir()
        (path / "inside.png").write_bytes(content)
    elif kind == 3:
        path.write_bytes(rng.randbytes(rng.randint(0, 200)))
    elif kind == 4:
        with path.open("wb") as file:  # huge and empty
            file.truncate(2**33)
    else:
        path.write_bytes(content)
