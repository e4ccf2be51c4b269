"""The sizes of image that one network serves, as a bundle records them.

Needs the standard library alone, as devices do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from waveedge.errors import InputError

__all__ = ["Size", "SizeRange", "size_text"]

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class SizeRange:
    """Heights and widths that differ from a known one by multiples of a step.

    Attributes:
        calibrated: the size that the network was made for.
        multiple: other heights and widths differ from these by multiples of that many pixels.
        least: the smallest height and width.
        most: the largest height and width; None where nothing bounds them.
    """

    calibrated: Size
    multiple: Size = (1, 1)
    least: Size = (1, 1)
    most: Size | None = None

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any] | None) -> SizeRange | None:
        """What a checked manifest says; None where its network takes one size alone."""
        fields = manifest["sizes"] if manifest is not None else None
        if fields is None:
            return None
        (a, b), (c, d), (e, f), most = (fields[name] for name in cls.__dataclass_fields__)
        return cls((a, b), (c, d), (e, f), (most[0], most[1]) if most else None)

    def to_dict(self) -> dict[str, list[int] | None]:
        """The fields as plain JSON, for the manifest."""
        return {name: list(size) if size else None for name, size in asdict(self).items()}

    def admits(self, size: Size) -> bool:
        """Whether images of this size can be taken."""
        return all(
            least <= extent <= most and (extent - calibrated) % multiple == 0
            for extent, calibrated, multiple, least, most in zip(
                size,
                self.calibrated,
                self.multiple,
                self.least,
                self.most or (float("inf"),) * 2,
                strict=True,
            )
        )

    def check(self, size: Size, what: str) -> None:
        """Refuse a size that ``what`` ("this artifact") does not take.

        Raises:
            InputError: it does not; the message says which it takes.
        """
        if not self.admits(size):
            raise InputError(
                f"{what} does not take images of {size_text(size)}", hint=f"It takes {self}."
            )

    def others(self) -> list[Size]:
        """Two sizes besides the calibrated one, where there are so many: small, not square."""
        (height, width), (rows, columns) = self.calibrated, self.multiple
        candidates = [
            (self.least[0], self.least[1] + columns),
            (height + rows, width + 2 * columns),
            (height + 2 * rows, width + columns),
            self.least,
            self.most or self.least,
        ]
        fit = (size for size in candidates if size != self.calibrated and self.admits(size))
        return list(dict.fromkeys(fit))[:2]

    def __str__(self) -> str:
        (rows, columns), (least_rows, least_columns) = self.multiple, self.least
        end = f"to {size_text(self.most)}" if self.most else "on"
        if rows == columns and least_rows % rows == least_columns % columns == 0:
            multiples = f" that are multiples of {rows}" if rows > 1 else ""
            return f"heights and widths{multiples} from {size_text(self.least)} {end}"
        heights, widths = (
            ", ".join(str(least + step * multiple) for step in range(3))
            for least, multiple in zip(self.least, self.multiple, strict=True)
        )
        last = f", up to {size_text(self.most)}" if self.most else ""
        return f"heights {heights}, ... and widths {widths}, ...{last}"


def size_text(size: Size) -> str:
    """A size as people write it: height x width."""
    return f"{size[0]}x{size[1]}"
