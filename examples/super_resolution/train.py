"""Train WaveMix to double the size of photos: about an hour on one core.

    python examples/super_resolution/train.py

writes ``model.pt`` beside this file and prints its PSNR on the test photos.

The published network has no path that carries the image past its blocks. It starts here as an
interpolator instead of as noise, so that all of the training goes into being better than one:

1. every conv of stem and head starts as an orthogonal matrix (times a bilinear kernel in the
   transposed conv) that together give back red, green and blue. A random matrix spreads the image
   over all channels, where quantization noise averages out, rather than over three of them;
2. the last BatchNorm of each block starts with gain zero, so each block starts as the identity.
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
sys.path.insert(0, str(HERE.parent))

from photos import PACKAGES, halved, training_photos  # noqa: E402
from scoring import score  # noqa: E402
from training import WeightAverage, save_weights, seed_everything, set_learning_rate  # noqa: E402

PATCH = 32  # pixels of the small image
SPREAD = 0.1  # of torch's usual random weights, added so that no two channels start alike

Photo = npt.NDArray[np.uint8]


def configuration(width: int = 48, depth: int = 4) -> WaveMixConfig:
    """The published network for super-resolution, of ``width`` channels in ``depth`` blocks."""
    return WaveMixConfig(
        depth=depth,
        dim=width,
        ff_channels=width,
        num_classes=3,
        stem="strided",
        stride=1,
        head="expand",
        head_widths=(width // 2,),
    )


@torch.no_grad()
def start_as_interpolator(model: WaveMix, config: WaveMixConfig) -> None:
    """Set the weights so that the network enlarges by bilinear interpolation."""
    half, dim = config.head_widths[0], config.dim
    colours, features = _orthogonal(half, 3), _orthogonal(dim, half)
    bilinear = torch.tensor([0.25, 0.75, 0.75, 0.25])
    weights = model.state_dict()  # shares its memory with the network
    for name in ("conv.0", "conv.1", "expand.0"):
        weights[f"{name}.weight"] *= SPREAD
    weights["conv.0.weight"][:, :, 1, 1] += colours
    weights["conv.1.weight"][:, :, 1, 1] += features
    weights["expand.0.weight"] += features[:, :, None, None] * torch.outer(bilinear, bilinear)
    weights["expand.1.weight"].copy_(colours.T[:, :, None, None])
    for name in ("conv.0", "conv.1", "expand.0", "expand.1"):
        weights[f"{name}.bias"].zero_()
    for block in range(config.depth):
        weights[f"layers.{block}.feedforward.5.weight"].zero_()


def _orthogonal(rows: int, columns: int) -> Tensor:
    """A random (rows, columns) matrix whose columns are orthonormal."""
    matrix: Tensor = torch.linalg.qr(torch.randn(rows, columns))[0]
    return matrix


def draw_batch(
    pairs: list[tuple[Photo, Photo]], count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` aligned patches (small, large), each the most detailed of three, turned."""
    small: list[Photo] = []
    large: list[Photo] = []
    for _ in range(count):
        drawn = [_patch(*pairs[rng.integers(len(pairs))], rng) for _ in range(3)]
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        best = max(drawn, key=_detail)
        for patch, into in ((best[0], small), (best[1], large)):
            turned = np.rot90(patch, turns)
            into.append(turned[:, ::-1] if mirrored else turned)
    return _tensor(small), _tensor(large)


def _patch(small: Photo, large: Photo, rng: np.random.Generator) -> tuple[Photo, Photo]:
    top, left = (int(rng.integers(side - PATCH + 1)) for side in small.shape[:2])
    inner = large[2 * top : 2 * (top + PATCH), 2 * left : 2 * (left + PATCH)]
    return small[top : top + PATCH, left : left + PATCH], inner


def _detail(patch: tuple[Photo, Photo]) -> float:
    """Mean difference of vertical neighbours: flat sky has nothing to learn from."""
    green = patch[0][..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean())


def _tensor(patches: list[Photo]) -> Tensor:
    batch = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2)
    return batch.float().div(255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=PACKAGES, help="where the packages put them")
    parser.add_argument("--out", type=Path, default=HERE / "model.pt")
    parser.add_argument("--steps", type=int, default=26000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=48, help="channels")
    parser.add_argument("--depth", type=int, default=4, help="blocks")
    options = parser.parse_args()

    rng = seed_everything(options.seed)
    pairs = [(halved(photo), photo) for photo in training_photos(options.photos)]
    config = configuration(options.width, options.depth)
    model = WaveMix(config)
    start_as_interpolator(model, config)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    average = WeightAverage(model, decay=0.995)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.train()
    for step in range(options.steps):
        set_learning_rate(optimizer, step, options.steps, options.rate)
        if step == int(0.3 * options.steps):
            # From here on train with the statistics that the network will be used with.
            for norm in norms:
                norm.eval()
        small, large = draw_batch(pairs, options.batch, rng)
        # The absolute error is the steadier guide at first; the squared one is what PSNR measures.
        early = step < options.steps // 2
        output = model(small)
        loss = F.l1_loss(output, large) if early else 20 * F.mse_loss(output, large)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if (step + 1) % 200 == 0:
            done = f"step {step + 1}/{options.steps}  {time.process_time():.0f} CPU-s"
            print(f"{done}  loss {loss.item():.4f}", flush=True)
    save_weights(average.model, options.out)
    with torch.inference_mode():
        result = score("super_resolution", lambda x: average.model(torch.from_numpy(x)).numpy())
    print(f"test photos: {result['value']:.2f} dB, bicubic {result['baseline']:.2f} dB")


if __name__ == "__main__":
    main()
