"""What runs at which price: the cost profile by which exact rewrites choose between equal forms.

A cost is a number of multiply-adds. A profile says how many of them a device does in the time that
it takes to move one element, to interleave one, and to run a node at all. It need not be exact:
where two forms cost nearly the same, either will do. But kinds of devices differ by orders of
magnitude: on a CPU a small convolution more, for the border of a map, is nearly free; on a GPU it
is a launch of a kernel, and costs what millions of multiply-adds cost.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from waveedge.bounds import Name, Text
from waveedge.errors import RecipeError

__all__ = ["CPU", "GPU", "PROFILES", "CostProfile", "profile_of"]

Price = Annotated[float, Field(ge=0, le=1e12)]


class CostProfile(BaseModel):
    """Prices in multiply-adds.

    Attributes:
        name: what it is called by.
        element: to read or write one element of a feature map.
        shuffle: to interleave one element (DepthToSpace).
        node: to run one operator, whatever its size.
        multiple: numbers of channels come in multiples of it, as kernels compute so many at a time.
        fitted: how and where the prices were found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    element: Price
    shuffle: Price
    node: Price
    multiple: Annotated[int, Field(ge=1, le=1024)] = 4
    fitted: Text = ""


CPU = CostProfile(
    name="cpu",
    element=20,
    shuffle=50,
    node=200_000,
    fitted="measured with onnxruntime, one core of an x86 with AVX-512; int8 computes and moves "
    "about four times as fast as float32, so that one profile serves both",
)

GPU = CostProfile(
    name="gpu",
    element=100,
    shuffle=100,
    node=15_000_000,
    multiple=16,
    fitted="estimated, not measured: 3 us to launch a kernel, 102 GB/s and 5e12 multiply-adds/s "
    "in float16, as data sheets of a Jetson Orin NX have it",
)

PROFILES = MappingProxyType({profile.name: profile for profile in (CPU, GPU)})
"""The profiles that waveedge ships, by name."""


def profile_of(cost: CostProfile | str) -> CostProfile:
    """A profile, or the shipped one of that name.

    Raises:
        RecipeError: none has that name.
    """
    if isinstance(cost, CostProfile):
        return cost
    if cost not in PROFILES:
        raise RecipeError(
            f"the cost profile {cost!r} is unknown", hint=f"Known: {', '.join(PROFILES)}."
        )
    return PROFILES[cost]
