"""Drawing, where matplotlib is installed."""

from __future__ import annotations

from typing import Any

from waveedge.errors import MissingDependencyError
from waveedge.extras import install_line

__all__ = ["figure"]


def figure(size: tuple[float, float]) -> Any:
    """A new matplotlib figure of (width, height) in inches; no display and no global state.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "drawing a plot needs matplotlib", hint=install_line("plot")
        ) from error
    return Figure(figsize=size, layout="constrained")
