"""The photos that the super-resolution network and the denoiser are trained on.

They come from two Debian packages and are not in this repository:
``apt-get install lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds``.
None of them is a test photo or one of waveedge's built-in calibration photos.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PACKAGES = Path("/usr/share/backgrounds")

NAMES = (
    # lomiri-wallpapers: CC BY 4.0, CC BY-SA 4.0 and CC BY-SA 3.0
    "Bridge_by_Sander_Klootwijk.jpg",
    "Dragonfly_by_Bolly.jpg",
    "Kleiber_by_Lukas_Baubkus.jpg",
    "Picture_0B_by_freespace.jpg",
    "free_by_Peter_Nerlich.jpg",
    "greentock_by_Peter_Nerlich.jpg",
    "life_by_Aitzol_Berasategi.jpg",
    "sunset_by_Aitzol_Berasategi.jpg",
    # mate-backgrounds: GPL 2 or later
    "mate/nature/Aqua.jpg",
    "mate/nature/Blinds.jpg",
    "mate/nature/Dune.jpg",
    "mate/nature/FreshFlower.jpg",
    "mate/nature/Garden.jpg",
    "mate/nature/GreenMeadow.jpg",
    "mate/nature/LadyBird.jpg",
    "mate/nature/RainDrops.jpg",
    "mate/nature/Storm.jpg",
    "mate/nature/TwoWings.jpg",
    "mate/nature/Wood.jpg",
    "mate/nature/YellowFlower.jpg",
)


def training_photos(
    folder: Path, longer_sides: tuple[int, ...] = (1200, 800, 500)
) -> list[npt.NDArray[np.uint8]]:
    """Return every training photo at every scale: (H, W, 3) uint8, even height and width.

    Args:
        folder: where the packages put their photos.
        longer_sides: pixels; a photo is reduced to each, which makes its detail fine.
    """
    photos = []
    for name in NAMES:
        if not (folder / name).is_file():
            raise SystemExit(
                f"{folder / name} does not exist.\n"
                "Install the photos (Debian): apt-get install "
                "lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds"
            )
        original = Image.open(folder / name).convert("RGB")
        for longer in longer_sides:
            scale = longer / max(original.size)
            size = [int(side * scale) // 2 * 2 for side in original.size]
            reduced = original.resize((size[0], size[1]), Image.Resampling.LANCZOS)
            photos.append(np.asarray(reduced))
    return photos


def halved(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Reduce an (H, W, 3) uint8 photo to half its size with Pillow's antialiased bicubic."""
    height, width = photo.shape[:2]
    small = Image.fromarray(photo).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    return np.asarray(small)
