"""Train the WaveMix classifier on Fashion-MNIST: about 50 CPU-minutes on one core.

    python examples/fashion_mnist/train.py

writes ``model.pt`` beside this file and prints its accuracy on the whole official test set.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from waveedge.models import WaveMix, WaveMixConfig

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from make_subsets import PACKAGE, read_split  # noqa: E402
from training import WeightAverage, save_weights, seed_everything, set_learning_rate  # noqa: E402

# The published classifier with a stem of 2x2 patches: 28x28 images become 14x14 maps.
CONFIG = WaveMixConfig(depth=4, dim=48, ff_channels=48, num_classes=10, patch_size=2)
SHIFT = 2
ERASED = 10  # largest side, in pixels, of the square that is erased from half of the images


def as_input(images: npt.NDArray[np.uint8]) -> Tensor:
    """Bring (N, 28, 28) uint8 to (N, 3, 28, 28) float32 in 0..1."""
    return torch.from_numpy(images / np.float32(255))[:, None].expand(-1, 3, -1, -1)


def augment(images: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Shift each image by up to ``SHIFT`` pixels, mirror half of them, erase a square of half."""
    count, height, width = images.shape
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    top, left = rng.integers(0, 2 * SHIFT + 1, (2, count, 1))
    rows = top + np.arange(height)
    columns = left + np.arange(width)
    columns = np.where(rng.random((count, 1)) < 0.5, columns, columns[:, ::-1])
    result: npt.NDArray[np.uint8] = padded[
        np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    erased = np.where(rng.random(count) < 0.5, rng.integers(2, ERASED + 1, count), 0)
    for image, side in zip(result, erased, strict=True):
        y, x = rng.integers(0, (height - side, width - side))
        image[y : y + side, x : x + side] = 0
    return result


@torch.no_grad()
def accuracy(model: nn.Module, images: npt.NDArray[np.uint8], labels: Tensor) -> float:
    starts = range(0, len(labels), 500)
    scores = torch.cat([model(as_input(images[start : start + 500])) for start in starts])
    right = int((scores.argmax(1) == labels).sum())
    return right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=PACKAGE, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, default=HERE / "model.pt")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=6e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = seed_everything(options.seed)
    images, classes = read_split(options.data, "train")
    labels = torch.from_numpy(classes.astype(np.int64))
    test_images, test_classes = read_split(options.data, "t10k")
    test_labels = torch.from_numpy(test_classes.astype(np.int64))

    model = WaveMix(CONFIG).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    average = WeightAverage(model, decay=0.998)
    steps_an_epoch = len(images) // options.batch
    steps = options.epochs * steps_an_epoch
    for epoch in range(options.epochs):
        order = rng.permutation(len(images))
        model.train()
        for index in range(steps_an_epoch):
            set_learning_rate(optimizer, epoch * steps_an_epoch + index, steps, options.rate)
            chosen = order[index * options.batch : (index + 1) * options.batch]
            scores = model(as_input(augment(images[chosen], rng)))
            loss = F.cross_entropy(scores, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            average.update(model)
        held = accuracy(average.model, images[:5000], labels[:5000])
        print(
            f"epoch {epoch + 1}/{options.epochs}  loss {loss.item():.3f}  "
            f"accuracy on 5,000 training images {held:.4f}  {time.process_time():.0f} CPU-s",
            flush=True,
        )
    save_weights(average.model, options.out)
    print(
        f"accuracy on the 10,000 test images: {accuracy(average.model, test_images, test_labels)}"
    )


if __name__ == "__main__":
    main()
