"""What a network is: its family, its full configuration, and how images enter it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from waveedge.bounds import Extent, Finite, Name

__all__ = ["Colour", "ModelSpec", "Preprocessing", "Task"]

Task = Literal["classification", "segmentation", "super-resolution", "restoration", "unknown"]
Colour = Literal["rgb", "ycbcr"]

_Values = Annotated[tuple[Finite, ...], Field(min_length=1, max_length=2**16)]


class Preprocessing(BaseModel):
    """How an 8-bit image becomes the network's input.

    A pixel p in 0..255 becomes ``(low + p / 255 * (high - low) - mean) / std`` with
    ``range = (low, high)``; ``mean`` and ``std`` have one value, or one per channel.

    ``colour`` is what the channels of a picture mean to the network; ``ycbcr`` is the full-range
    Y, Cb, Cr of JPEG files, with 128 for no colour.

    >>> Preprocessing(mean=(0.5,), std=(0.25,)).range
    (0.0, 1.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    colour: Colour = "rgb"
    range: tuple[Finite, Finite] = (0.0, 1.0)
    mean: _Values = (0.0,)
    std: _Values = (1.0,)

    @field_validator("std")
    @classmethod
    def _nonzero(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if any(value <= 0 for value in std):
            raise ValueError("std must be positive")
        if min(std) < 1e-9:  # a pixel would become infinite
            raise ValueError("std must be 1e-9 or more")
        return std


class ModelSpec(BaseModel):
    """Everything needed to build a network again, except its weights.

    Attributes:
        family: of the published networks (a name of ``waveedge.models.families.FAMILIES``), or
            ``custom`` (built by ``arch``).
        config: the constructor arguments of the family's module, complete.
        assumed: names in ``config`` that shapes cannot tell and that hold the published default.
        arch: ``package.module:factory`` of a custom network.
        task: what the output means; decides which quality figures are reported.
        preprocessing: how images enter.
        channels: input channels.
        input_size: (height, width) in pixels used where the user names none.
        size_multiple: height and width must be multiples of this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Name
    config: dict[str, Any] = Field(default_factory=dict)
    assumed: tuple[Name, ...] = ()
    arch: Name | None = None
    task: Task = "unknown"
    preprocessing: Preprocessing = Preprocessing()
    channels: Extent = 3
    input_size: tuple[Extent, Extent] = (224, 224)
    size_multiple: Extent = 1
