"""A network as a graph of layers: torch.fx symbolic tracing, layer by layer."""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn

from waveedge.errors import ExportError

__all__ = ["trace"]

_LEAF_PACKAGES = ("torch.nn.", "waveedge.nn.", "waveedge.compression.", "pytorch_wavelets.")


class _LayerTracer(fx.Tracer):
    """Stops at layers (torch.nn, waveedge.nn, pytorch_wavelets) and looks into everything else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (nn.Sequential, nn.ModuleList, fx.GraphModule)):
            return False
        return f"{type(m).__module__}.".startswith(_LEAF_PACKAGES)


def trace(model: nn.Module) -> fx.GraphModule:
    """A copy of ``model`` in eval mode as a graph whose nodes are layers.

    The copy keeps the qualified names of parameters, so its state dict has the model's keys, and
    carries the model's ``spec`` if there is one. Parameters are not shared with the model.

    Raises:
        ExportError: the network has more than one input, or Python control flow that depends on
            the values or sizes of tensors.
    """
    model = copy.deepcopy(model).eval()
    tracer = _LayerTracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # fx raises whatever the network's own code raises on a proxy
        raise ExportError(
            f"{type(model).__name__} cannot be traced into a graph of layers: {error}",
            hint="Its forward must not branch or loop on tensor values or sizes; put such code "
            "into a module of its own that torch.fx can treat as a leaf, or write it without "
            "branches.",
        ) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ExportError(
            f"{type(model).__name__} has {len(inputs)} inputs; only networks with one image input "
            "are supported",
            hint="Wrap it in a module whose forward takes the image alone.",
        )
    result = fx.GraphModule(model, graph, class_name=type(model).__name__)
    preserve(result, spec=getattr(model, "spec", None))
    return result


def preserve(graph_module: fx.GraphModule, **attributes: Any) -> None:
    """Set attributes that survive ``copy.deepcopy`` (plain ones of a GraphModule do not)."""
    kept = graph_module.meta.setdefault("_user_preserved_attributes", {})
    for name, value in attributes.items():
        if value is not None:
            kept[name] = value
            setattr(graph_module, name, value)
