"""Train the wavelet-conv denoiser against Gaussian noise of sigma 25: about 8 CPU-minutes.

    python examples/denoiser/train.py

writes ``model.pt`` beside this file and prints its PSNR on the test photos.
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

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from network import Denoiser, factory  # noqa: E402
from photos import PACKAGES, training_photos  # noqa: E402
from scoring import SIGMA, score  # noqa: E402
from training import WeightAverage, save_weights, seed_everything, set_learning_rate  # noqa: E402

PATCH = 64  # pixels


def draw_batch(
    photos: list[npt.NDArray[np.uint8]], count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` patches, turned and mirrored: with noise, and the noise alone."""
    patches = []
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        top, left = (int(rng.integers(side - PATCH + 1)) for side in photo.shape[:2])
        patch = photo[top : top + PATCH, left : left + PATCH]
        turned = np.rot90(patch, int(rng.integers(4)))
        patches.append(turned[:, ::-1] if rng.random() < 0.5 else turned)
    clean = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float().div(255)
    noise = SIGMA * torch.randn_like(clean)
    return clean + noise, clean


@torch.no_grad()
def start_quiet(model: Denoiser) -> None:
    """Let every block start as the identity, which makes the first steps steady."""
    for block in model.blocks:
        narrow = block.get_submodule("narrow")
        assert isinstance(narrow, nn.Conv2d)
        narrow.weight.zero_()
        nn.init.zeros_(narrow.bias)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=PACKAGES, help="where the packages put them")
    parser.add_argument("--out", type=Path, default=HERE / "model.pt")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = seed_everything(options.seed)
    photos = training_photos(options.photos)
    model = factory()
    assert isinstance(model, Denoiser)
    start_quiet(model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, betas=(0.9, 0.99))
    average = WeightAverage(model, decay=0.995)
    for step in range(options.steps):
        set_learning_rate(optimizer, step, options.steps, options.rate)
        noisy, clean = draw_batch(photos, options.batch, rng)
        loss = F.mse_loss(model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trainable, 0.05)
        optimizer.step()
        average.update(model)
        if (step + 1) % 200 == 0:
            done = f"step {step + 1}/{options.steps}  {time.process_time():.0f} CPU-s"
            print(f"{done}  PSNR of the batch {-10 * loss.log10().item():.2f} dB", flush=True)
    save_weights(average.model, options.out)
    with torch.inference_mode():
        result = score("denoiser", lambda x: average.model(torch.from_numpy(x)).numpy())
    print(f"test photos: {result['value']:.2f} dB, noisy {result['baseline']:.2f} dB")


if __name__ == "__main__":
    main()
