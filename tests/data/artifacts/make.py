"""Make the artifacts of the present format that every later version must load.

    python make.py

They are made once for each format, and not again: that is their point. ``NAME.npz`` holds an input
(1, C, H, W) and what the compressed network made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import waveedge
from waveedge.calibration import open_images
from waveedge.compression.compress import compress

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
ARTIFACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sisr_w8a8": ("wavemix_sisr_l1", {}),
    "sisr_w8a4_wcc50": (
        "wavemix_sisr_l1",
        {"bits": 4, "wcc_ratio": 0.5, "wcc_levels": 1, "wcc_select": "topk", "tune": 0},
    ),
    "classifier_w4a6": ("wavemix_cls_l1_strided", {"bits": 6, "weight_bits": 4}),
}


def main() -> None:
    """Make all of :data:`ARTIFACTS` beside this file."""
    for name, (checkpoint, recipe) in ARTIFACTS.items():
        model = waveedge.load(GOLDEN / f"{checkpoint}.pth")
        images = open_images(None, spec=model.spec, size=(16, 16), limit=8, held_out=2)
        small = compress(model, images=images, **recipe)
        waveedge.save_artifact(small, HERE / f"{name}.safetensors")
        image = images.held_out[0]
        output = small(torch.from_numpy(image)).numpy()
        np.savez_compressed(HERE / f"{name}.npz", input=image, output=output)


if __name__ == "__main__":
    main()
