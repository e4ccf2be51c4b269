"""Read numbers from a state dict's names and shapes by majority."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

__all__ = ["Evidence", "Shape"]

Shape = tuple[int, ...]


class Evidence:
    """What the names and shapes of a state dict say, by regular expressions over the names.

    >>> evidence = Evidence({"layers.0.weight": (8, 4), "layers.1.weight": (8, 8)})
    >>> evidence.count(r"layers\\.(\\d+)\\..+")
    2
    >>> evidence.vote((r"layers\\.\\d+\\.weight", 0), default=1)
    8
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        # Vectors first: where a bias and a weight disagree, the bias is the likelier witness.
        self.shapes = dict(sorted(shapes.items(), key=lambda item: len(item[1])))

    def any(self, pattern: str, *, dimensions: int | None = None) -> bool:
        """Whether a name matches (and its tensor has that many dimensions)."""
        return any(
            dimensions in (None, len(shape)) and re.fullmatch(pattern, name)
            for name, shape in self.shapes.items()
        )

    def number(self, pattern: str) -> int:
        """How many names match."""
        return sum(re.fullmatch(pattern, name) is not None for name in self.shapes)

    def vote(self, *sources: tuple[str, int], default: int) -> int:
        """Return the extent that most tensors agree on.

        A draw goes to the default, or else to what vectors say.

        Args:
            sources: pairs of a pattern and the axis of the matching tensors that holds the extent.
            default: where no tensor says anything.
        """
        votes = Counter(
            shape[axis]
            for pattern, axis in sources
            for name, shape in self.shapes.items()
            if axis < len(shape) and re.fullmatch(pattern, name)
        )
        most = max(votes.values(), default=0)
        leaders = [extent for extent, count in votes.items() if count == most]
        return default if default in leaders or not leaders else leaders[0]

    def count(self, pattern: str, *, first: int = 0) -> int:
        """Count repeated parts, numbered from ``first``, from the numbers in their names.

        A number is believed if it has at least half as many names as the fullest one: a stray
        name does not make a part.

        Args:
            pattern: its first group is the number.
            first: the lowest number; also the least that is returned where it is 1.
        """
        numbers = Counter(
            int(match[1]) for name in self.shapes if (match := re.fullmatch(pattern, name))
        )
        fullest = max(numbers.values(), default=0)
        believed = [number for number, names in numbers.items() if 2 * names >= fullest]
        return max(believed, default=0) + 1 - first if believed else first
