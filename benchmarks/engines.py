"""The forms of a network that TensorRT-RTX builds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from benchmarks.variants import Workshop
from waveedge.compression.reparameterize import GPU, reparameterize
from waveedge.export import to_onnx
from waveedge.export.lowering import lower

__all__ = ["ENGINES", "Engine", "graph_of"]


@dataclass(frozen=True)
class Engine:
    """A form for TensorRT: a variant's network, in a precision, without some rewrites."""

    title: str
    network: str
    precision: str = "float32"
    skip: tuple[str, ...] = ()


ENGINES = {
    "published": Engine("published, float32", "published"),
    "published_half": Engine("published, float16", "published", "float16"),
    "exact_half": Engine("exact, float16", "exact", "float16"),
    # Border pieces come of seeing through residual sums; without that there are none.
    "exact_half_borderless": Engine(
        "exact without border pieces, float16", "exact", "float16", ("residual",)
    ),
    "exact_bfloat16": Engine("exact, bfloat16", "exact", "bfloat16"),
    "int8": Engine("w8a8, float32 around it", "int8"),
    "int8_half": Engine("w8a8, float16 around it", "int8", "float16"),
    "int8_bfloat16": Engine("w8a8, bfloat16 around it", "int8", "bfloat16"),
}
"""What TensorRT-RTX builds, by name."""


def graph_of(shop: Workshop, engine: Engine) -> bytes:
    """Return a form of a network as ONNX in TensorRT's encoding."""
    model: nn.Module = shop.loaded.model
    if engine.network == "exact":
        model = reparameterize(model, shop.network.size, cost=GPU, skip=engine.skip)
    elif engine.network != "published":
        model = shop.compressed_by({"bits": 8, "cost": GPU.name}).graph
    traced = to_onnx(model, (shop.images[0].shape[1], *shop.network.size))
    written: bytes = lower(traced, "trt", engine.precision).shipped.SerializeToString()
    return written
