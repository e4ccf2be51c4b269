"""Cut the six test photos from their originals (Debian package lomiri-wallpapers-16.04).

Only needed to check where the files in ``test/`` come from; they are in the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

# Name in test/ -> original, longer side it is reduced to, left and top of the 512x384 crop.
# Reducing first gives sharp pixels: at full size a phone camera's photo has little fine detail.
CROPS = {
    "autumn": ("aitzgorri_by_Aitzol_Berasategi.jpg", 1000, 400, 120),
    "brushes": ("Picture_1A_by_freespace.jpg", 900, 140, 160),
    "dandelion": ("seeding_by_Clements_Engelhardt.jpg", 1200, 100, 60),
    "dogs": ("friends_by_Aitzol_Berasategi.jpg", 1200, 200, 350),
    "drum": ("Wine_by_Jakkub_Mede.jpg", 1000, 60, 480),
    "mountains": ("picosdeeuropa_by_Aitzol_Berasategi.jpg", 1000, 400, 150),
}
SIZE = (512, 384)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("/usr/share/backgrounds"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "test")
    options = parser.parse_args()
    for name, (original, longer, left, top) in CROPS.items():
        photo = Image.open(options.photos / original).convert("RGB")
        photo.thumbnail((longer, longer), Image.Resampling.LANCZOS, reducing_gap=None)
        crop = photo.crop((left, top, left + SIZE[0], top + SIZE[1]))
        crop.save(options.out / f"{name}.jpg", quality=95, subsampling=0)


if __name__ == "__main__":
    main()
