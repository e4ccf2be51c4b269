"""Score the example networks: one protocol for torch modules, ONNX sessions and compressed nets.

    from scoring import score
    score("super_resolution", lambda x: session.run(x))
    -> {"metric": "psnr_db", "value": 33.2, "baseline": 32.2, "count": 6}

``predict`` maps a float32 array (N, C, H, W) to the network's output as an array. Needs numpy and
Pillow alone.

Protocols
    fashion_mnist     accuracy on the first 2,000 images of the official test set
    super_resolution  mean over the test photos of the PSNR over all RGB values, 4 pixels at each
                      border left out; the input is the photo reduced by Pillow's antialiased
                      bicubic filter and stored in 8 bits; baseline: Pillow's bicubic enlargement
    denoiser          the same photos plus Gaussian noise of sigma 25/255 from a fixed seed, not
                      clipped; baseline: the noisy photo
    brain_mri         mean over 9 classes of the intersection over union of all pixels of 18 slices
                      of the half of a head that was not trained on; the three channels are a
                      slice and its neighbours, 3 mm to either side, the outer one first; baseline:
                      the classes of the trained half at the mirrored places
Outputs are rounded to 8 bits before a PSNR is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "NAMES",
    "EvaluationSet",
    "Name",
    "calibration_images",
    "load_test_set",
    "mean_iou",
    "psnr",
    "score",
]

Name = Literal["fashion_mnist", "super_resolution", "denoiser", "brain_mri"]
NAMES: tuple[Name, ...] = ("fashion_mnist", "super_resolution", "denoiser", "brain_mri")

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SIGMA = 25 / 255
BORDER = {"super_resolution": 4, "denoiser": 0}
CLASSES = 9  # of brain_mri
_HERE = Path(__file__).resolve().parent


class EvaluationSet(NamedTuple):
    """Inputs (N, C, H, W) float32; targets uint8: labels (N,) or (N, H, W), photos (N, 3, H', W').

    ``baseline`` holds what needs no network, in the form of ``targets``; None for a classifier.
    """

    inputs: Floats
    targets: Bytes
    baseline: Bytes | None


def load_test_set(name: Name, *, input_size: tuple[int, int] | None = None) -> EvaluationSet:
    """Load a network's test set.

    Args:
        name: the example's folder.
        input_size: (height, width) the network takes; photos are cut to it around their centre.
            By default whole photos: 192x256 for super-resolution, 384x512 for the denoiser,
            192x224 for the brain.
    """
    if name == "fashion_mnist":
        with np.load(_HERE / "fashion_mnist" / "test.npz") as data:
            return EvaluationSet(_three_channels(data["images"]), data["labels"], None)
    if name == "brain_mri":
        return _slices(input_size)
    factor = 2 if name == "super_resolution" else 1
    photos = [np.asarray(Image.open(file)) for file in sorted(_photo_folder().glob("*.jpg"))]
    if input_size is not None:
        photos = [
            _centre(photo, factor * input_size[0], factor * input_size[1]) for photo in photos
        ]
    targets = np.stack([photo.transpose(2, 0, 1) for photo in photos])
    if name == "denoiser":
        inputs = _noisy(targets, seed=25)
        return EvaluationSet(inputs, targets, _to_bytes(inputs))
    height, width = targets.shape[2:]
    small = np.stack([_resize(photo, height // 2, width // 2) for photo in photos])
    large = np.stack([_resize(photo, height, width) for photo in small])
    return EvaluationSet(_to_input(small), targets, large.transpose(0, 3, 1, 2))


def score(
    name: Name,
    predict: Callable[[Floats], npt.NDArray[Any]],
    *,
    batch: int = 1,
    limit: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Score ``predict`` on the test set of example ``name``.

    Args:
        batch: images a call.
        limit: the first so many images only.
        input_size: as in ``load_test_set``.

    Returns:
        ``metric`` ("accuracy" or "mean_iou" in 0..1, or "psnr_db"), ``value``, ``baseline``
        (bicubic, noisy or mirrored, None for accuracy), ``count`` and ``each``: the figure of each
        image. For "mean_iou" also ``pixel_accuracy``; its ``value`` counts the pixels of all
        images together, and is not the mean of ``each``.
    """
    whole = load_test_set(name, input_size=input_size)
    inputs, targets = whole.inputs[:limit], whole.targets[:limit]
    outputs = np.concatenate(
        [predict(inputs[start : start + batch]) for start in range(0, len(inputs), batch)]
    )
    if name == "brain_mri":
        assert whole.baseline is not None
        return _overlaps(outputs.argmax(axis=1), targets, whole.baseline[:limit])
    if whole.baseline is None:
        each = (outputs.argmax(axis=1) == targets).astype(np.float64)
        reference = None
    else:
        border = BORDER[name]
        each = psnr(_to_bytes(outputs), targets, border)
        reference = float(psnr(whole.baseline[:limit], targets, border).mean())
    return {
        "metric": "accuracy" if whole.baseline is None else "psnr_db",
        "value": float(each.mean()),
        "baseline": reference,
        "count": len(each),
        "each": each.tolist(),
    }


def psnr(images: Bytes, targets: Bytes, border: int = 0) -> npt.NDArray[np.float64]:
    """PSNR in dB of each image of a batch (N, C, H, W) uint8, ``border`` pixels left out."""
    height, width = targets.shape[2:]
    inner = (..., slice(border, height - border), slice(border, width - border))
    error = images[inner].astype(np.float64) - targets[inner]
    decibels: npt.NDArray[np.float64] = 10 * np.log10(255**2 / (error**2).mean(axis=(1, 2, 3)))
    return decibels


def mean_iou(classes: npt.NDArray[Any], targets: Bytes) -> float:
    """Mean over the classes in either of two label arrays of intersection over union, 0..1."""
    both = np.bincount(targets[classes == targets], minlength=CLASSES)
    either = np.bincount(classes.ravel(), minlength=CLASSES)
    either = either + np.bincount(targets.ravel(), minlength=CLASSES) - both
    return float((both[either > 0] / either[either > 0]).mean())


def calibration_images(name: Name, *, input_size: tuple[int, int] = (128, 128)) -> list[Floats]:
    """Return calibration inputs, each (1, C, H, W) float32, none of them in a test set.

    Fashion-MNIST: 256 images of the training set. The brain: crops of slices of the half that was
    trained on. The others: crops of ``input_size`` from waveedge's built-in photos, which were not
    trained on either; noise added for the denoiser.
    """
    if name == "fashion_mnist":
        with np.load(_HERE / "fashion_mnist" / "calibration.npz") as data:
            return list(_three_channels(data["images"])[:, None])
    if name == "brain_mri":
        folder = _HERE / "brain_mri" / "calibration"
    else:
        from waveedge.calibration import __file__ as room

        folder = Path(str(room)).parent / "photos"
    files = [f for f in sorted(folder.iterdir()) if f.suffix in {".jpg", ".png", ".webp"}]
    photos = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    crops = np.stack([_centre(photo, *input_size) for photo in photos])
    inputs = _to_input(crops)
    if name == "denoiser":
        inputs = _noisy(crops.transpose(0, 3, 1, 2), seed=26)
    return list(inputs[:, None])


def _slices(input_size: tuple[int, int] | None) -> EvaluationSet:
    """Make the brain's test set: each slice but the first and last, between its neighbours."""
    with np.load(_HERE / "brain_mri" / "test.npz") as data:
        slices, targets, mirrored = data["slices"], data["labels"], data["mirrored"]
    images = np.stack((slices[:-2], slices[1:-1], slices[2:]), axis=-1)
    if input_size is not None:
        images, targets, mirrored = (
            np.stack([_centre(each, *input_size) for each in stack])
            for stack in (images, targets, mirrored)
        )
    return EvaluationSet(_to_input(images), targets, mirrored)


def _overlaps(classes: npt.NDArray[Any], targets: Bytes, baseline: Bytes) -> dict[str, Any]:
    each = [mean_iou(*pair) for pair in zip(classes, targets, strict=True)]
    return {
        "metric": "mean_iou",
        "value": mean_iou(classes, targets),
        "baseline": mean_iou(baseline, targets),
        "pixel_accuracy": float((classes == targets).mean()),
        "count": len(each),
        "each": each,
    }


def _photo_folder() -> Path:
    return _HERE / "super_resolution" / "test"


def _three_channels(grey: Bytes) -> Floats:
    """Bring (N, 28, 28) to the (N, 3, 28, 28) that the published stem takes."""
    return _to_input(grey[..., None].repeat(3, axis=-1))


def _noisy(photos: Bytes, *, seed: int) -> Floats:
    """Add the noise to photos (N, 3, H, W); RandomState's stream never changes with numpy."""
    noise = np.random.RandomState(seed).standard_normal(photos.shape)
    return (photos / 255 + SIGMA * noise).astype(np.float32)


def _to_input(photos: Bytes) -> Floats:
    return (photos.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)


def _to_bytes(images: npt.NDArray[Any]) -> Bytes:
    return (images * 255).round().clip(0, 255).astype(np.uint8)


def _resize(photo: Bytes, height: int, width: int) -> Bytes:
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def _centre(photo: Bytes, height: int, width: int) -> Bytes:
    if photo.shape[0] < height or photo.shape[1] < width:
        raise ValueError(f"photos of {photo.shape[:2]} pixels have no crop of {(height, width)}")
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return photo[top : top + height, left : left + width]
