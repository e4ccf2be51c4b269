"""A head in three dimensions and its labels (Debian: mricron-data), and the slices cut from it.

    python examples/brain_mri/volumes.py

writes the test set and the calibration images beside this file:

``test.npz``     ``slices`` (20, 192, 224) uint8, sagittal slices of the right half of the head, one
                 every 3 mm from the ear to the middle; ``labels`` (18, 192, 224) uint8, the classes
                 of all but the first and last; ``mirrored``, the classes of the left half at the
                 mirrored places
``calibration``  17 slices of the left half with their neighbours, as red, green and blue

The volumes are indexed [x, y, z]: from left to right, from back to front, from bottom to top, in
millimetres; the middle of the head is x = 90.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["CLASSES", "PACKAGE", "SPACING", "TRAINED", "read_head", "sagittal"]

PACKAGE = Path("/usr/share/mricron/templates")
CLASSES = (
    "not brain",
    "white matter and other",
    "frontal lobe",
    "parietal lobe",
    "occipital lobe",
    "temporal lobe",
    "insula, cingulate and hippocampus",
    "central grey matter",
    "cerebellum",
)
TRAINED = slice(0, 91)  # x of all that training sees: the left half
TESTED = range(156, 98, -3)  # x of the slices in the test set, from the right half
CALIBRATED = range(20, 88, 4)
MIDDLE = 90
SPACING = 3  # mm between a slice and its two neighbours
HEIGHT, WIDTH = 192, 224

Bytes = npt.NDArray[np.uint8]


def read_head(folder: Path = PACKAGE) -> tuple[Bytes, Bytes]:
    """Read the head (T1-weighted, 0..254) and the class of each voxel, both (181, 217, 181)."""
    head, brain, regions = (
        _read_nifti(folder / f"{name}.nii.gz") for name in ("ch2", "ch2bet", "aal")
    )
    table = np.zeros(256, np.uint8)
    for line in (folder / "aal.nii.txt").read_text().splitlines():
        if line.strip():
            index, _, code = line.split()
            table[int(index)] = _class_of(int(code))
    classes = table[regions]
    classes[(classes == 0) & (brain > 0)] = CLASSES.index("white matter and other")
    return head, classes


def sagittal(volume: Bytes) -> Bytes:
    """Turn (N, 217, 181) voxels, N sagittal slices, into (N, 192, 224) pictures, zeros around."""
    upright = volume.transpose(0, 2, 1)[:, ::-1]
    above, left = (HEIGHT - upright.shape[1]) // 2, (WIDTH - upright.shape[2]) // 2
    rows = (above, HEIGHT - upright.shape[1] - above)
    columns = (left, WIDTH - upright.shape[2] - left)
    return np.pad(upright, ((0, 0), rows, columns))


def _class_of(code: int) -> int:
    """Bring a region's code in the atlas, whose thousands are groups of regions, to a class."""
    if code == 5401:  # the fusiform gyrus, which the atlas counts among the occipital regions
        return 5
    groups = {2: 2, 3: 6, 4: 6, 5: 4, 6: 3, 7: 7, 8: 5, 9: 8}
    return groups[code // 1000]


def _read_nifti(file: Path) -> Bytes:
    if not file.is_file():
        raise SystemExit(
            f"{file} does not exist.\n"
            "Install the data (Debian, Ubuntu): apt-get install mricron-data\n"
            "or name the folder that holds it: --data FOLDER"
        )
    content = gzip.decompress(file.read_bytes())
    dimensions = struct.unpack("<8h", content[40:56])[1:4]
    (kind,) = struct.unpack("<h", content[70:72])
    (start,) = struct.unpack("<f", content[108:112])
    if kind != 2:
        raise SystemExit(f"{file} has no 8-bit voxels (datatype {kind}, not 2)")
    voxels = np.frombuffer(content, np.uint8, int(np.prod(dimensions)), int(start))
    return voxels.reshape(dimensions, order="F")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=PACKAGE, help="where the package put it")
    options = parser.parse_args()
    here = Path(__file__).resolve().parent
    head, classes = read_head(options.data)
    tested = np.array(TESTED)
    inner = tested[1:-1]
    np.savez_compressed(
        here / "test.npz",
        slices=sagittal(head[tested]),
        labels=sagittal(classes[inner]),
        mirrored=sagittal(classes[2 * MIDDLE - inner]),
    )
    (here / "calibration").mkdir(exist_ok=True)
    for x in CALIBRATED:
        picture = sagittal(head[[x - SPACING, x, x + SPACING]]).transpose(1, 2, 0)
        file = here / "calibration" / f"left{x:02d}.jpg"
        Image.fromarray(picture).save(file, quality=92, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
