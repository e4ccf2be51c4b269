"""Cut the two image subsets in this folder from Fashion-MNIST (Debian: dataset-fashion-mnist).

``test.npz``         the first 2,000 images of the official test set, in their order:
                     ``images`` (2000, 28, 28) uint8 and ``labels`` (2000,) uint8
``calibration.npz``  the first 256 images of the training set: ``images``; ``waveedge compress
                     --calib`` takes this file
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

PACKAGE = Path("/usr/share/datasets/fashion-mnist")


def read_split(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read ``train`` or ``t10k``: images (N, 28, 28) and labels (N,), both uint8."""
    image_file = folder / f"{split}-images-idx3-ubyte.gz"
    if not image_file.is_file():
        raise SystemExit(
            f"{image_file} does not exist.\n"
            "Install the data (Debian, Ubuntu): apt-get install dataset-fashion-mnist\n"
            "or name a folder that holds the four .gz files: --data FOLDER"
        )
    # IDX format: a header of 16 bytes (images) or 8 bytes (labels), then the bare bytes.
    images = np.frombuffer(gzip.decompress(image_file.read_bytes()), np.uint8, offset=16)
    label_file = folder / f"{split}-labels-idx1-ubyte.gz"
    labels = np.frombuffer(gzip.decompress(label_file.read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 28, 28), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=PACKAGE)
    folder = Path(__file__).parent
    options = parser.parse_args()
    images, labels = read_split(options.data, "t10k")
    np.savez_compressed(folder / "test.npz", images=images[:2000], labels=labels[:2000])
    images, _ = read_split(options.data, "train")
    np.savez_compressed(folder / "calibration.npz", images=images[:256])


if __name__ == "__main__":
    main()
