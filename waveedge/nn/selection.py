"""What makes a selection, a form of Wavelet Compressed Convolution (WCC): all asked about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Selection"]


class Selection(nn.Module, ABC):
    """A 1x1 convolution that computes with a share of its input's coefficients.

    What it becomes in ONNX is its ``forward``, which must be one that torch exports.

    Attributes:
        selection: its name, in recipes.
        arguments: names of the constructor's arguments, which an artifact keeps.
        chooses_by: the ONNX operator whose indices are its choice at run time, which verification
            compares; empty where the choice is made at calibration.
        ratio: share of the coefficients that is kept, in (0, 1].
        weight_bits: of the weight; 32 where it is not quantized.
        activation_bits: of the coefficients that are kept; likewise.
        weight: parameter (O, I, 1, 1), as in ``nn.Conv2d``.
        bias: parameter (O,) or None, as in ``nn.Conv2d``.
    """

    selection: ClassVar[str]
    arguments: ClassVar[str]
    chooses_by: ClassVar[str] = ""

    ratio: float
    weight_bits: int
    activation_bits: int
    weight: Tensor
    bias: Tensor | None

    @classmethod
    @abstractmethod
    def refusal(cls, map_size: tuple[int, int], levels: int) -> str:
        """Why it is not for maps of this (height, width); empty where it is."""

    @classmethod
    @abstractmethod
    def compress(
        cls,
        conv: nn.Conv2d,
        map_size: tuple[int, int],
        *,
        levels: int,
        ratio: float,
        weight_bits: int,
        activation_bits: int,
    ) -> Selection:
        """Choose what is kept of a 1x1 convolution on maps of this size; calibration follows.

        Raises:
            RecipeError: the convolution is not 1x1 with stride 1, one group and no padding.
        """

    @abstractmethod
    def to_conv(self) -> nn.Conv2d:
        """The whole 1x1 convolution with this layer's weight and bias, in floating point."""

    @abstractmethod
    def kept_coefficients(self, x: Tensor) -> Tensor:
        """What the weight is multiplied with for an input (N, I, H, W): (N, I, ...), quantized."""

    @abstractmethod
    def multiply_adds(self, height: int, width: int) -> tuple[int, int]:
        """Of one image of this size: in all, and the part that is wavelet transforms."""

    def indices(self, x: Tensor) -> Tensor | None:
        """The integers that ``chooses_by`` gives for an input (N, I, H, W); None without one."""
        return None
