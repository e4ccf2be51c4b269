"""Images that cannot be right are said to be suspicious, and good ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waveedge.calibration import open_images
from waveedge.calibration.folders import built_in_photos
from waveedge.spec import ModelSpec, Preprocessing, Task

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = ModelSpec(family="custom", input_size=(64, 64))
RNG = np.random.default_rng(0)


def suspicions(folder: Path, spec: ModelSpec = SPEC) -> str:
    images = open_images(folder, spec=spec)
    for sentence in images.suspicions:
        assert sentence in images.describe()
    return "\n".join(images.suspicions)


def save(folder: Path, *pictures: np.ndarray) -> Path:
    for index, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def photos(mode: str = "RGB", gain: float = 1.0) -> list[np.ndarray]:
    pictures = (np.asarray(Image.open(path).convert(mode)) for path in built_in_photos())
    return [(pixels * gain).astype(np.uint8) for pixels in pictures]


def regions(labels: int) -> np.ndarray:
    """Rectangles of one label each, over one another."""
    mask = np.full((120, 160), RNG.integers(labels), np.uint8)
    for _ in range(12):
        (top, bottom), (left, right) = (np.sort(RNG.integers(0, n, 2)) for n in mask.shape)
        mask[top:bottom, left:right] = RNG.integers(labels)
    return mask


@pytest.mark.parametrize("task", ["classification", "super-resolution"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [32, 224])
def test_built_in_photos_are_not(task: Task, channels: int, side: int) -> None:
    spec = ModelSpec(family="custom", task=task, channels=channels)
    assert open_images(None, spec=spec, size=(side, side)).suspicions == ()


def test_small_grey_pictures_of_clothes_are_not() -> None:
    spec = ModelSpec(family="custom", channels=1, input_size=(28, 28))
    assert not suspicions(EXAMPLES / "fashion_mnist" / "calibration.npz", spec)


@pytest.mark.parametrize(("mode", "gain"), [("L", 1.0), ("RGB", 0.1), ("L", 0.1)])
def test_scans_and_pictures_that_are_merely_dark_are_not(
    tmp_path: Path, mode: str, gain: float
) -> None:
    assert not suspicions(save(tmp_path, *photos(mode, gain)))


@pytest.mark.parametrize("void", [False, True])
def test_maps_of_labels(tmp_path: Path, void: bool) -> None:
    masks = [regions(19) for _ in range(8)]
    for mask in masks:
        mask[:2] = 255 if void else mask[:2]
    assert "8 of 8 images look like maps of labels" in suspicions(save(tmp_path, *masks))


def test_scattered_labels(tmp_path: Path) -> None:
    masks = [RNG.integers(0, 21, (80, 100)).astype(np.uint8) for _ in range(8)]
    assert "maps of labels" in suspicions(save(tmp_path, *masks))


def test_a_few_labels_between_photos(tmp_path: Path) -> None:
    pictures = [*photos("L")[:6], regions(19), regions(19)]
    assert not suspicions(save(tmp_path, *pictures))


def test_pictures_of_one_value_are_named(tmp_path: Path) -> None:
    black = [np.full((80, 100, 3), value, np.uint8) for value in (0, 200)]
    noise = RNG.integers(0, 3, (80, 100, 3)).astype(np.uint8)
    found = suspicions(save(tmp_path, *photos()[:5], *black, noise))
    assert "3 of 8 images are black or of one value" in found
    for name in ("5.png", "6.png", "7.png"):
        assert name in found


@pytest.mark.parametrize("bits", [10, 12])
def test_fewer_bits_than_the_file_has(tmp_path: Path, bits: int) -> None:
    deep = [(RNG.random((80, 100)) * (2**bits - 1)).astype(np.uint16) for _ in range(8)]
    assert "Values run only from 0 to 0.0" in suspicions(save(tmp_path, *deep))


def test_sixteen_bits_that_are_used_are_not(tmp_path: Path) -> None:
    deep = [(pixels.astype(np.uint16) * 257) for pixels in photos("L")]
    assert not suspicions(save(tmp_path, *deep))


def test_arrays_that_are_narrow_or_far(tmp_path: Path) -> None:
    rules = Preprocessing(mean=(0.5,), std=(0.25,))
    spec = SPEC.model_copy(update={"preprocessing": rules})
    arrays = RNG.normal(size=(8, 3, 64, 64)).astype(np.float32)
    for factor, expected in ((1.0, ""), (0.01, "run only from"), (100.0, "really preprocessed")):
        np.save(tmp_path / "a.npy", factor * arrays)
        found = suspicions(tmp_path, spec)
        assert expected in found
        assert bool(found) == bool(expected)


def test_a_channel_that_pictures_do_not_have(tmp_path: Path) -> None:
    spec = ModelSpec(family="custom", channels=4, input_size=(64, 64))
    folder = save(tmp_path, *photos())
    assert "Channel 4 of 4 is 1 in every image" in suspicions(folder, spec)
    for path in folder.iterdir():
        path.unlink()
    alpha = [np.dstack([pixels, pixels[..., 0]]) for pixels in photos()]
    assert not suspicions(save(tmp_path, *alpha), spec)


def test_tiny_pictures_are_named_with_their_size(tmp_path: Path) -> None:
    tiny = [RNG.integers(0, 256, (5 + i, 4, 3)).astype(np.uint8) for i in range(3)]
    found = suspicions(save(tmp_path, *tiny))
    assert "enlarged more than 8 times, to 64x64" in found
    assert "0.png (4x5)" in found


def test_a_folder_of_one_picture_over_and_over(tmp_path: Path) -> None:
    save(tmp_path, *[photos()[0]] * 6)
    assert "5 of the 6 that were read repeat" in suspicions(tmp_path)
