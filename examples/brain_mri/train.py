"""Train a WaveMix segmenter on one half of a head: about 19 CPU-minutes on one core.

    python examples/brain_mri/train.py

writes ``model.pt`` beside this file and prints its mean IoU on the other half. Training sees the
left half alone; what it sees is cut anew for every step, at other angles, sizes and bends.
"""

from __future__ import annotations

import argparse
import math
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

from scoring import score  # noqa: E402
from training import WeightAverage, save_weights, seed_everything, set_learning_rate  # noqa: E402
from volumes import CLASSES, HEIGHT, PACKAGE, SPACING, TRAINED, WIDTH, read_head  # noqa: E402

# The published segmenter, which works at a quarter of the resolution.
CONFIG = WaveMixConfig(
    depth=4,
    dim=48,
    ff_channels=32,
    levels=3,
    num_classes=len(CLASSES),
    stem="strided",
    head="expand",
    head_widths=(24, 12),
)
TILT = (12, 7, 7)  # degrees: the largest turn about x (within a slice), y and z
BEND = 2.5  # mm: deviation of the smooth random displacement


class Cutter:
    """Cuts slices out of a volume, each along a plane of its own.

    Args:
        head: grey values (X, Y, Z) uint8.
        classes: labels of the same shape.
    """

    def __init__(self, head: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint8]) -> None:
        self.size = torch.tensor(head.shape)
        self.head = torch.from_numpy(head.copy()).float().div(255)[None, None]
        self.classes = torch.from_numpy(classes.copy()).float()[None, None]
        rows = (HEIGHT - 1) / 2 - torch.arange(HEIGHT)  # z upwards from the middle
        columns = torch.arange(WIDTH) - (WIDTH - 1) / 2  # y
        planes = [torch.full((HEIGHT, WIDTH), float(step)) for step in (-SPACING, 0, SPACING)]
        z, y = torch.meshgrid(rows, columns, indexing="ij")
        self.points = torch.stack([torch.stack((x, y, z), -1) for x in planes])

    def cut(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut one image (3, HEIGHT, WIDTH), three planes side by side, and the middle's labels."""
        size = self.size.tolist()
        middle = torch.tensor([(side - 1) / 2 for side in size])
        centre = middle + torch.from_numpy(rng.uniform(-8, 8, 3)).float()
        centre[0] = rng.uniform(20, size[0] - 1 - SPACING)
        points = self.points @ self._turned(rng).T + centre
        coarse = torch.from_numpy(rng.normal(0, BEND, (1, 3, 6, 7))).float()
        bend = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic", align_corners=True)
        points = points + bend[0].permute(1, 2, 0)
        points[..., 0].clamp_(0, size[0] - 1)  # beyond the middle of the head is the other half
        places = (points / (self.size - 1) * 2 - 1).flip(-1)[None]
        image = F.grid_sample(self.head, places, align_corners=True)[0, 0]
        labels = F.grid_sample(self.classes, places[:, 1:2], mode="nearest", align_corners=True)
        return self._exposed(image, rng), labels[0, 0, 0].long()

    @staticmethod
    def _turned(rng: np.random.Generator) -> Tensor:
        """A random matrix that turns and stretches (x, y, z) a little."""
        matrix = np.diag(np.exp(rng.normal(0, 0.05, 3)) * math.exp(rng.normal(0, 0.07)))
        for axis, largest in enumerate(TILT):
            angle = math.radians(rng.uniform(-largest, largest))
            first, second = (other for other in range(3) if other != axis)
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = math.cos(angle)
            turn[first, second] = -math.sin(angle)
            turn[second, first] = math.sin(angle)
            matrix = turn @ matrix
        return torch.from_numpy(matrix).float()

    @staticmethod
    def _exposed(image: Tensor, rng: np.random.Generator) -> Tensor:
        """Change brightness, contrast and evenness, and add noise, as scanners differ."""
        uneven = torch.from_numpy(rng.normal(0, 0.1, (1, 1, 3, 3))).float()
        gain = F.interpolate(uneven, image.shape[1:], mode="bicubic", align_corners=True)[0].exp()
        bright = image.clamp(0, 1) ** math.exp(rng.normal(0, 0.15)) * gain
        noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32))
        return (bright + rng.uniform(0, 0.03) * noise).clamp(0, 1)


def overlap_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """One minus the classes' mean soft Dice overlap: a small class counts as a large one."""
    shares = scores.softmax(1)
    truth = F.one_hot(labels, scores.shape[1]).permute(0, 3, 1, 2)
    both, total = (shares * truth).sum((0, 2, 3)), (shares + truth).sum((0, 2, 3))
    return 1 - ((2 * both + 1) / (total + 1)).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=PACKAGE, help="where the package put it")
    parser.add_argument("--out", type=Path, default=HERE / "model.pt")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = seed_everything(options.seed)
    head, classes = read_head(options.data)
    cutter = Cutter(head[TRAINED], classes[TRAINED])
    model = WaveMix(CONFIG).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    average = WeightAverage(model, decay=0.99)
    model.train()
    for step in range(options.steps):
        set_learning_rate(optimizer, step, options.steps, options.rate)
        pairs = [cutter.cut(rng) for _ in range(options.batch)]
        images, labels = (torch.stack(items) for items in zip(*pairs, strict=True))
        scores = model(images)
        loss = F.cross_entropy(scores, labels) + overlap_loss(scores, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if (step + 1) % 50 == 0:
            right = (scores.argmax(1) == labels).float().mean().item()
            done = f"step {step + 1}/{options.steps}  {time.process_time():.0f} CPU-s"
            print(f"{done}  loss {loss.item():.3f}  pixels right {100 * right:.1f} %", flush=True)
    save_weights(average.model, options.out)
    with torch.inference_mode():
        result = score("brain_mri", lambda x: average.model(torch.from_numpy(x)).numpy())
    print(
        f"the other half: mean IoU {100 * result['value']:.2f} %, mirrored labels "
        f"{100 * result['baseline']:.2f} %; pixels right {100 * result['pixel_accuracy']:.2f} %"
    )


if __name__ == "__main__":
    main()
