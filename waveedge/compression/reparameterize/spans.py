"""Parts of a map that are the same parts of a larger map."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Place", "Span"]

Place = Literal["first", "whole", "last"]
"""Lines of the border that begins an axis, all but a border at each end, lines of the last one."""


class Span(NamedTuple):
    """Lines [start, stop) of an axis of ``size`` lines.

    A rewrite is made for one size of image, and its graph runs at others: what lies at the end of
    an axis is counted from there.

    Attributes:
        start: the first line.
        stop: the one after the last.
        size: lines of the axis.
        place: what moves where the axis is longer: nothing ("first"), ``stop`` ("whole"), or both
            ("last").
    """

    start: int
    stop: int
    size: int
    place: Place = "whole"

    def slice(self) -> slice:
        """The span as an index; ends that take everything are None."""
        start = self.start - self.size if self.place == "last" else self.start
        stop = self.stop if self.place == "first" else self.stop - self.size
        whole_axis = (self.start, self.stop, self.place) == (0, self.size, "whole")
        return slice(None) if whole_axis else slice(start, stop or None)
