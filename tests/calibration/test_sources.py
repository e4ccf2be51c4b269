"""Images as a notebook has them: arrays, tensors, loaders, lists, iterators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from waveedge.calibration import open_images
from waveedge.calibration.folders import built_in_photos
from waveedge.errors import ImageError
from waveedge.spec import ModelSpec

FLOATS = np.random.default_rng(0).random((12, 3, 24, 32), np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 3, 24, 32)).astype(np.uint8)
LABELS = torch.arange(12)


class Labelled(Dataset[Any]):
    """A dataset that knows its length and gives single images with labels."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], index


def loader(images: np.ndarray, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.from_numpy(images.copy()), LABELS), 5, **options)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda a: a,
    "tensor": torch.from_numpy,
    "list of arrays CHW": list,
    "list of arrays NCHW": lambda a: [one[None] for one in a],
    "list of tensors": lambda a: list(torch.from_numpy(a)),
    "tuple of batches": lambda a: (a[:7], a[7:]),
    "list of pairs": lambda a: [(one, 3) for one in a],
    "dict": lambda a: {"image": torch.from_numpy(a), "label": LABELS},
    "dataset": lambda a: Labelled(torch.from_numpy(a)),
    "loader": loader,
    "loader of dicts": lambda a: DataLoader([{"image": one, "label": 1} for one in a], 4),  # type: ignore[arg-type]
    "generator": lambda a: (one for one in a),
    "endless generator": lambda a: endless(a),
}


def endless(images: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield from images


def used(images: Any) -> set[bytes]:
    return {image.tobytes() for image in (*images.calibration, *images.held_out)}


@pytest.mark.parametrize("spec", [None, ModelSpec(family="custom")], ids=["bare", "spec"])
@pytest.mark.parametrize("form", FORMS)
def test_floats_are_the_network_s_own_input(form: str, spec: ModelSpec | None) -> None:
    mine = FLOATS.copy()
    images = open_images(FORMS[form](mine), spec=spec)
    assert used(images) == {one.tobytes() for one in FLOATS}
    assert len(images.calibration) == 9
    assert len(images.held_out) == 3
    assert images.calibration[0].shape == (1, 3, 24, 32)
    assert "the network's own input" in images.describe()
    assert not any(np.shares_memory(image, mine) for image in images.calibration)
    np.testing.assert_array_equal(mine, FLOATS)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("form", FORMS)
def test_uint8_are_pictures(form: str, last: bool) -> None:
    mine = np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1)) if last else PIXELS.copy()
    before = mine.copy()
    images = open_images(FORMS[form](mine))
    assert used(images) == {(one / 255.0).astype(np.float32).tobytes() for one in PIXELS}
    assert "Pictures" in images.describe()
    np.testing.assert_array_equal(mine, before)


def test_pillow_images_paths_and_grey() -> None:
    pictures = [Image.fromarray(one.transpose(1, 2, 0)) for one in PIXELS]
    assert used(open_images(pictures)) == used(open_images(PIXELS))
    photos = built_in_photos()[:6]
    assert len(used(open_images([*photos[:3], *map(str, photos[3:])], size=(32, 32)))) == 6
    grey = open_images([picture.convert("L") for picture in pictures])
    assert grey.calibration[0].shape == (1, 1, 24, 32)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_without_a_specification(kind: Callable[[Path], Any]) -> None:
    folder = built_in_photos()[0].parent
    images = open_images(kind(folder), size=(32, 32))
    assert images.calibration[0].shape == (1, 3, 32, 32)
    assert images.found == len(list(folder.iterdir()))


def test_an_image_set_is_itself() -> None:
    images = open_images(FLOATS)
    assert open_images(images, spec=ModelSpec(family="custom")) is images


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats(dtype: torch.dtype) -> None:
    images = open_images(torch.from_numpy(FLOATS).to(dtype).requires_grad_())
    assert images.calibration[0].dtype == np.float32


def test_the_seed_draws_from_what_has_a_length() -> None:
    many = np.random.default_rng(2).random((500, 1, 8, 8), np.float32)
    for source in (many, list(many), Labelled(torch.from_numpy(many))):
        one, again, other = (
            open_images(source, limit=6, held_out=2, seed=seed) for seed in (0, 0, 1)
        )
        assert one.fingerprint == again.fingerprint != other.fingerprint
        assert one.fingerprint != open_images(source[:8], limit=6, held_out=2).fingerprint


@pytest.mark.parametrize("count", [80, 4000])
@pytest.mark.parametrize("kind", ["array", "list", "file"])
def test_what_is_sorted_by_class_is_judged_by_every_class(
    kind: str, count: int, tmp_path: Path
) -> None:
    classes = np.repeat(np.arange(4, dtype=np.float32), count // 4)
    noise = np.random.default_rng(0).random((count, 1, 8, 8), np.float32)
    images = classes[:, None, None, None] + 0.1 * noise
    np.save(tmp_path / "sorted.npy", images)
    source = {"array": images, "list": list(images), "file": tmp_path / "sorted.npy"}[kind]
    found = open_images(source, size=(8, 8), channels=1)
    assert (len(found.calibration), len(found.held_out)) == (64, 16)
    for side in (found.calibration, found.held_out):
        assert {int(image.min()) for image in side} == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["array", "npy", "npz"])
def test_an_image_of_a_stack_is_named_by_its_place_there(kind: str, tmp_path: Path) -> None:
    stack = np.arange(200, dtype=np.float32)[:, None, None, None] + np.zeros((1, 8, 8), np.float32)
    np.save(tmp_path / "a.npy", stack)
    np.savez(tmp_path / "a.npz", first=stack, second=stack[:1] + 200)
    source = stack if kind == "array" else tmp_path / f"a.{kind}"
    found = open_images(source, size=(8, 8), channels=1, limit=300, held_out=8)
    shown = {"array": "item 0", "npy": "a.npy", "npz": "a.npz, array 'first'"}[kind]
    numbers = []
    for name, image in zip(found.names, [*found.calibration, *found.held_out], strict=True):
        numbers.append(int(image[0, 0, 0, 0]))
        if numbers[-1] < 200:
            assert name.endswith(f"{shown}, image {numbers[-1]}")
        else:
            assert name.endswith("a.npz, array 'second'")
    assert sorted(numbers) == list(range(201 if kind == "npz" else 200))


def test_a_stream_is_read_no_further_than_needed() -> None:
    drawn = []

    def stream() -> Iterator[np.ndarray]:
        for index in range(10**9):
            drawn.append(index)
            yield np.full((3, 8, 8), index, np.float32)

    assert len(open_images(stream(), limit=6, held_out=2).calibration) == 6
    assert len(drawn) < 10


def test_a_size_and_a_specification_resize_pictures_but_not_floats() -> None:
    spec = ModelSpec(family="custom", input_size=(16, 16))
    assert open_images(PIXELS, spec=spec).calibration[0].shape == (1, 3, 16, 16)
    assert open_images(PIXELS, spec=spec, size=(8, 8)).calibration[0].shape == (1, 3, 8, 8)
    assert open_images(FLOATS, spec=spec).calibration[0].shape == (1, 3, 24, 32)
    with pytest.raises(ImageError, match=r"its shape is \(12, 3, 24, 32\)"):
        open_images(FLOATS, spec=spec, size=(16, 16))


def test_what_is_no_image_is_skipped_and_named() -> None:
    odd = [*FLOATS[:6], np.arange(9), "absent.png", None, np.full((3, 24, 32), np.nan, np.float32)]
    images = open_images(odd)
    assert len(used(images)) == 6
    reasons = "\n".join(f"{name}: {reason}" for name, reason in images.skipped)
    assert "item 6: its type is int64" in reasons
    assert "absent.png" in reasons
    assert "item 8: there is no image in a NoneType" in reasons
    assert "item 9: it holds NaN" in reasons


def failing() -> Iterator[np.ndarray]:
    yield FLOATS[0]
    raise KeyError("my own bug")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "no images in a int"),
        ([], "no usable image"),
        (np.zeros((0, 3, 8, 8), np.float32), "no usable image"),
        (np.zeros((3,), np.float32), "no usable image"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "int64"),
        (np.array([object()]), "object"),
        ({"label": 3}, "no image in a dict"),
        (iter([None] * 10_000), "no usable image"),
        (failing(), "failed after 1 items: KeyError"),
        (FLOATS[0], "single usable image"),
        (np.zeros((4, 3, 8, 8), np.float32), "single usable image"),
        (torch.zeros(4, 3, 8, 8, device="meta"), "no usable image"),
    ],
)  # fmt: skip
def test_what_holds_no_images_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_images(source)
