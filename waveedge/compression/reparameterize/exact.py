"""The exact form of a network, held against the user's own: rewrite by rewrite, and as a whole."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from torch import fx

from waveedge.compression.costs import CPU, CostProfile
from waveedge.duplicates import duplicate
from waveedge.errors import ExportError
from waveedge.normalise import preserve
from waveedge.reference import FLOAT_ERROR, Reference

from .pipeline import Judge, LeftOut, fault_of, reparameterize

__all__ = ["PROBES", "exact_form", "holding"]

PROBES = 2
"""Images that judge a single rewrite; all of them judge the result."""


def exact_form(
    network: fx.GraphModule,
    input_size: tuple[int, int],
    reference: Reference,
    *,
    cost: CostProfile = CPU,
    skip: Collection[str] = (),
) -> fx.GraphModule:
    """:func:`reparameterize`, judged by the user's network on every image of ``reference``.

    Args:
        network: the normal form; it is not changed.
        input_size: (height, width) in pixels.
        reference: the user's network.
        cost: prices of the device that it shall run on.
        skip: names of rewrites to leave out, and qualified names of modules to keep as they are.

    Raises:
        ExportError: not even the normal form computes what the network does.
    """
    judge = partial(reference.error, images=PROBES)
    graph = reparameterize(network, input_size, cost=cost, skip=skip, judge=judge)
    return holding(graph, network, reference.error)


def holding(graph: fx.GraphModule, published: fx.GraphModule, judge: Judge) -> fx.GraphModule:
    """``graph`` if it computes the network's outputs; else a copy of the published form.

    Args:
        graph: the form after all rewrites.
        published: the normal form; it is not changed.
        judge: yields the error of a form on all images.

    Raises:
        ExportError: not even the published form computes what the network does.
    """
    reason = fault_of(judge(graph))
    if not reason:
        return graph
    unchanged = judge(published)
    if not unchanged <= FLOAT_ERROR:
        raise ExportError(
            f"the network, written as a graph, differs from itself by {unchanged:.1e} of its range",
            hint="Its outputs depend on something besides the image, or on values at the edge of "
            "what 32-bit floats hold.",
        )
    published = duplicate(published)
    left_out: tuple[LeftOut, ...] = graph.left_out  # type: ignore[assignment]
    left_out = (*left_out, LeftOut("all rewrites", "", f"together they {reason}"))
    preserve(published, applied=(), left_out=left_out)
    return published
