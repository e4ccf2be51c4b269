"""Good images: how files become network inputs, and how they are split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waveedge.calibration import ImageSet, open_images
from waveedge.calibration.folders import built_in_photos
from waveedge.errors import ImageError, InputError, RecipeError
from waveedge.spec import ModelSpec, Preprocessing, Task


def make_spec(
    *,
    task: Task = "classification",
    channels: int = 3,
    size: tuple[int, int] = (32, 48),
    preprocessing: Preprocessing | None = None,
    size_multiple: int = 1,
) -> ModelSpec:
    return ModelSpec(
        family="custom",
        task=task,
        channels=channels,
        input_size=size,
        preprocessing=preprocessing or Preprocessing(),
        size_multiple=size_multiple,
    )


def photo(name: str) -> Image.Image:
    (path,) = (path for path in built_in_photos() if path.stem == name)
    return Image.open(path).convert("RGB")


def save_tiles(folder: Path, count: int, side: int = 64) -> None:
    """Save disjoint tiles of a real photo, so that every file differs."""
    image = photo("coffee-1")
    columns = image.width // side
    for index in range(count):
        x, y = index % columns * side, index // columns * side
        image.crop((x, y, x + side, y + side)).save(folder / f"tile{index:02d}.png")


def arrays_of(images: ImageSet) -> set[bytes]:
    return {image.tobytes() for image in (*images.calibration, *images.held_out)}


def test_built_in_photos_are_announced_real_and_small() -> None:
    images = open_images(None, spec=make_spec(size=(224, 224)))
    assert len(images.calibration) == 12
    assert len(images.held_out) == 3
    assert "photos that come with waveedge" in images.describe()
    assert "--calib" in images.describe()
    for image in images.calibration:
        assert image.shape == (1, 3, 224, 224)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
    assert sum(path.stat().st_size for path in built_in_photos()) < 1_200_000


def test_every_built_in_photo_has_a_licence() -> None:
    photos = built_in_photos()
    text = (photos[0].parent / "LICENSES.md").read_text(encoding="utf-8")
    for path in photos:
        name = path.stem.rpartition("-")[0]
        assert f"`{name}-*`" in text or f"`{path.stem}`" in text, path


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("task", ["classification", "super-resolution"])
def test_crops_of_one_built_in_photo_stay_on_one_side(seed: int, task: Task) -> None:
    """The crops are traced back by their pixels."""
    spec = make_spec(task=task, size=(96, 96))
    images = open_images(None, spec=spec, seed=seed)
    sides: dict[str, set[str]] = {}
    for path in built_in_photos():
        alone = open_images(path, spec=spec, held_out=0, limit=8)
        for side, arrays in (("calib", images.calibration), ("held", images.held_out)):
            if any(a.tobytes() == b.tobytes() for a in arrays for b in alone.calibration):
                sides.setdefault(path.stem.rpartition("-")[0], set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    assert {"calib"} in sides.values()
    assert {"held"} in sides.values()


def test_split_is_disjoint_complete_and_deterministic(tmp_path: Path) -> None:
    save_tiles(tmp_path, 20)
    spec = make_spec(size=(64, 64))
    first = open_images(tmp_path, spec=spec, limit=10, held_out=5, seed=3)
    again = open_images(tmp_path, spec=spec, limit=10, held_out=5, seed=3)
    other = open_images(tmp_path, spec=spec, limit=10, held_out=5, seed=4)
    assert (len(first.calibration), len(first.held_out)) == (10, 5)
    assert len(arrays_of(first)) == 15
    assert first.fingerprint == again.fingerprint != other.fingerprint
    for one, two in zip(first.calibration, again.calibration, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("files", "limit", "held_out", "expected"),
    [(8, 64, 16, (6, 2)), (2, 64, 16, (1, 1)), (3, 64, 0, (3, 0)), (12, 4, 16, (4, 8))],
)
def test_fewer_images_than_asked(
    tmp_path: Path, files: int, limit: int, held_out: int, expected: tuple[int, int]
) -> None:
    save_tiles(tmp_path, files)
    images = open_images(tmp_path, spec=make_spec(), limit=limit, held_out=held_out)
    assert (len(images.calibration), len(images.held_out)) == expected
    assert len(arrays_of(images)) == sum(expected)
    assert ("rough" in images.describe()) == (expected[0] < 8)


def test_lone_picture_is_cut_in_two(tmp_path: Path) -> None:
    photo("chelsea-1").save(tmp_path / "cat.png")
    for task in ("classification", "super-resolution"):
        images = open_images(tmp_path, spec=make_spec(task=task))
        assert "cut in two" in images.source
        assert not {a.tobytes() for a in images.calibration} & {
            a.tobytes() for a in images.held_out
        }
        assert images.held_out


def test_lone_array_cannot_be_split(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((3, 32, 48), np.float32))
    with pytest.raises(ImageError, match="single usable image"):
        open_images(tmp_path, spec=make_spec())
    assert len(open_images(tmp_path, spec=make_spec(), held_out=0).calibration) == 1


def test_same_picture_under_two_names_is_used_once(tmp_path: Path) -> None:
    save_tiles(tmp_path, 6)
    (tmp_path / "copy.png").write_bytes((tmp_path / "tile00.png").read_bytes())
    images = open_images(tmp_path, spec=make_spec())
    assert len(arrays_of(images)) == 6
    ((_, reason),) = images.skipped
    assert "same picture" in reason


def test_preprocessing_is_applied_in_order(tmp_path: Path) -> None:
    Image.new("RGB", (48, 32), (0, 51, 255)).save(tmp_path / "a.png")
    rules = Preprocessing(range=(-1.0, 1.0), mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 2.0))
    images = open_images(tmp_path, spec=make_spec(preprocessing=rules), held_out=0)
    values = images.calibration[0][0, :, 16, 24]
    np.testing.assert_allclose(values, [(-1 - 0.5) / 0.5, -0.6, (1 - 0.25) / 2], rtol=1e-6)


def test_fingerprint_covers_preprocessing(tmp_path: Path) -> None:
    np.save(
        tmp_path / "a.npy",
        np.zeros((4, 3, 32, 48), np.float32) + np.arange(4.0).reshape(-1, 1, 1, 1),
    )
    plain = open_images(tmp_path, spec=make_spec())
    other = open_images(tmp_path, spec=make_spec(preprocessing=Preprocessing(std=(0.5,))))
    assert arrays_of(plain) == arrays_of(other)
    assert plain.fingerprint != other.fingerprint


def test_aspect_is_kept_and_the_centre_taken(tmp_path: Path) -> None:
    """A wide picture: green left and right, red in the middle; only red may remain."""
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[..., 1] = 255
    pixels[:, 75:225] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    images = open_images(tmp_path, spec=make_spec(size=(64, 64)), held_out=0)
    assert images.calibration[0][0, 1].max() == 0
    assert images.calibration[0][0, 0].min() == 1


def test_super_resolution_keeps_pixels(tmp_path: Path) -> None:
    image = photo("chelsea-1")
    image.save(tmp_path / "cat.png")
    original = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
    spec = make_spec(task="super-resolution", size=(64, 64))
    images = open_images(tmp_path, spec=spec, held_out=0)
    assert len(images.calibration) == 8
    windows = np.lib.stride_tricks.sliding_window_view(original, (3, 64, 64))[0]
    for crop in images.calibration:
        corner = np.isclose(windows[..., 0, 0, 0], crop[0, 0, 0, 0], atol=1e-6)
        assert any(np.allclose(window, crop[0], atol=1e-6) for window in windows[corner])
    assert len(arrays_of(images)) == 8


def test_small_picture_is_enlarged_for_super_resolution(tmp_path: Path) -> None:
    save_tiles(tmp_path, 2, side=20)
    images = open_images(tmp_path, spec=make_spec(task="super-resolution", size=(64, 64)))
    assert images.calibration[0].shape == (1, 3, 64, 64)


def test_grey_networks_and_grey_pictures(tmp_path: Path) -> None:
    photo("camera-1").convert("L").save(tmp_path / "grey.png")
    rgb = open_images(tmp_path, spec=make_spec(), held_out=0).calibration[0]
    grey = open_images(tmp_path, spec=make_spec(channels=1), held_out=0).calibration[0]
    assert rgb.shape == (1, 3, 32, 48)
    assert grey.shape == (1, 1, 32, 48)
    for channel in rgb[0]:
        np.testing.assert_array_equal(channel, grey[0, 0])


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("1", "png"), ("L", "png"), ("LA", "png"), ("P", "gif"), ("RGBA", "png"), ("RGBA", "webp"),
        ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "jpg"), ("RGB", "bmp"), ("RGB", "ppm"),
        ("RGB", "JPEG"), ("RGB", "PNG"), ("L", "pgm"), ("P", "tiff"), ("RGB", "noextension"),
    ],
)  # fmt: skip
def test_every_mode_and_format(tmp_path: Path, mode: str, suffix: str) -> None:
    image = photo("coffee-2").resize((96, 64)).convert(mode)
    format_ = "PNG" if suffix == "noextension" else None
    image.save(tmp_path / f"picture.{suffix}", format=format_)
    got = open_images(tmp_path, spec=make_spec(), held_out=0).calibration[0]
    expected = np.asarray(image.convert("RGB").resize((48, 32)), np.float32) / 255
    # Lossy formats and dithering change pixels, not the picture.
    assert np.abs(got[0].transpose(1, 2, 0) - expected).mean() < 0.1


def test_sixteen_bits(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32 * 48).reshape(32, 48)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.tif")
    images = open_images(tmp_path / "deep.png", spec=make_spec(), held_out=0)
    np.testing.assert_allclose(images.calibration[0][0, 0], ramp / 65535, atol=0.5 / 255 + 2e-5)
    assert "same picture" in open_images(tmp_path, spec=make_spec(), held_out=0).skipped[0][1]


def test_exif_orientation(tmp_path: Path) -> None:
    image = photo("chelsea-1").resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    got = open_images(tmp_path, spec=make_spec(size=(96, 64)), held_out=0).calibration[0]
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270), np.float32) / 255
    assert np.abs(got[0].transpose(1, 2, 0) - expected).mean() < 0.02


def test_float_arrays_are_fed_as_they_are(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).normal(size=(6, 3, 32, 48))
    np.save(tmp_path / "stack.npy", stack)
    np.savez(tmp_path / "more.npz", x=stack[:2] + 1, half=(stack[0] - 5).astype(np.float16))
    images = open_images(tmp_path, spec=make_spec(), limit=7, held_out=2)
    assert (len(images.calibration), len(images.held_out)) == (7, 2)
    expected = {row.astype(np.float32).tobytes() for row in (*stack, *(stack[:2] + 1))}
    expected.add((stack[0] - 5).astype(np.float16).astype(np.float32).tobytes())
    assert arrays_of(images) == expected


@pytest.mark.parametrize("shape", ["HWC", "CHW", "NHWC", "NCHW"])
def test_uint8_arrays_are_pictures(tmp_path: Path, shape: str) -> None:
    pixels = np.asarray(photo("chelsea-1"))
    array = {
        "HWC": pixels,
        "CHW": pixels.transpose(2, 0, 1),
        "NHWC": pixels[None],
        "NCHW": pixels.transpose(2, 0, 1)[None],
    }[shape]
    np.save(tmp_path / "a.npy", array)
    photo("chelsea-1").save(tmp_path / "a.png")
    got = open_images(tmp_path / "a.npy", spec=make_spec(), held_out=0).calibration[0]
    expected = open_images(tmp_path / "a.png", spec=make_spec(), held_out=0).calibration[0]
    np.testing.assert_array_equal(got, expected)


def test_stack_of_grey_uint8_pictures(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=stack, labels=np.arange(200))
    spec = make_spec(channels=1, size=(28, 28))
    images = open_images(tmp_path, spec=spec, limit=20, held_out=10)
    rows = {(row / 255.0).astype(np.float32).tobytes() for row in stack}
    assert len(arrays_of(images)) == 30
    assert arrays_of(images) <= rows
    assert "labels" in images.skipped[0][1]


def test_unpreprocessed_floats_are_pointed_out(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).uniform(0, 255, (4, 3, 32, 48)).astype(np.float32)
    np.save(tmp_path / "raw.npy", raw)
    assert "really preprocessed" in open_images(tmp_path, spec=make_spec()).describe()
    np.save(tmp_path / "raw.npy", raw / 255)
    assert "really preprocessed" not in open_images(tmp_path, spec=make_spec()).describe()


def test_many_channels_need_arrays(tmp_path: Path) -> None:
    save_tiles(tmp_path, 2)
    spec = make_spec(channels=6)
    with pytest.raises(ImageError, match="network takes 6"):
        open_images(tmp_path, spec=spec)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((2, 6, 32, 48), np.float32))
    assert open_images(tmp_path, spec=spec).calibration[0].shape == (1, 6, 32, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (33, 48)}, "33x48 does not fit"),
        ({"size": (0, 48)}, "0x48 is too small"),
        ({"limit": 0}, "cannot calibrate with 0"),
        ({"held_out": -1}, "hold out -1"),
    ],
)
def test_senseless_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_images(None, spec=make_spec(size_multiple=16), **options)  # type: ignore[arg-type]


def test_mean_of_wrong_length() -> None:
    rules = Preprocessing(mean=(0.5, 0.5))
    with pytest.raises(RecipeError, match="mean has 2 values"):
        open_images(None, spec=make_spec(preprocessing=rules))


def test_networks_that_take_y_cb_cr_get_it(tmp_path: Path) -> None:
    save_tiles(tmp_path, 2)
    colours = [
        open_images(tmp_path, spec=make_spec(size=(64, 64), preprocessing=preprocessing))
        for preprocessing in (Preprocessing(), Preprocessing(colour="ycbcr"))
    ]
    red, green, blue = colours[0].calibration[0][0]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = [luma, 0.564 * (blue - luma) + 128 / 255, 0.713 * (red - luma) + 128 / 255]
    np.testing.assert_allclose(colours[1].calibration[0][0], expected, atol=1.1 / 255)
