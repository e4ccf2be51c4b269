"""The form of a network that is shipped: rewritten as far as that computes the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from functools import partial

from torch import fx

from waveedge.errors import ExportError
from waveedge.normalise import preserve
from waveedge.reference import FLOAT_ERROR, Reference

from .pipeline import LeftOut, reparameterize

__all__ = ["PROBES", "exact_form", "holding"]

PROBES = 2
"""Images that judge a single rewrite; all of them judge the result."""


def exact_form(
    network: fx.GraphModule,
    input_size: tuple[int, int],
    reference: Reference,
    *,
    skip: Collection[str] = (),
) -> fx.GraphModule:
    """Rewrite a network, judged by the user's own.

    Args:
        network: the normal form; it is not changed.
        input_size: (height, width) in pixels.
        reference: the user's network.
        skip: as of :func:`reparameterize`.

    Returns:
        The rewritten network; ``left_out`` names what did not hold.

    Raises:
        ExportError: not even the normal form computes what the network does.
    """
    judge = partial(reference.error, images=PROBES)
    graph = reparameterize(network, input_size, skip=skip, judge=judge)
    return holding(graph, network, reference.error)


def holding(
    graph: fx.GraphModule,
    published: fx.GraphModule,
    judge: Callable[[fx.GraphModule, int | None], float],
) -> fx.GraphModule:
    """``graph`` if it computes the network's outputs on every image; else the published form.

    Raises:
        ExportError: not even the published form does.
    """
    error = judge(graph, None)
    if error <= FLOAT_ERROR:
        return graph
    unchanged = judge(published, None)
    if not unchanged <= FLOAT_ERROR:
        raise ExportError(
            f"the network, written as a graph, differs from itself by {unchanged:.1e} of its range",
            hint="Its outputs depend on something besides the image, or on values at the edge of "
            "what 32-bit floats hold.",
        )
    reason = f"together they changed the output by {error:.1e}"
    published = copy.deepcopy(published)
    preserve(published, applied=(), left_out=(LeftOut("all rewrites", "", reason),))
    return published
