"""Multiply-adds of the functions of a graph: what a network multiplies outside of its layers.

torch counts matrix products, attention and convolutions whose weights are computed; Fourier
transforms are added here. Additions, element-wise products and activations count as nothing, as
they do in layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["ProductCounter"]

aten = torch.ops.aten

_Counted = Callable[[fx.Node, Literal["product", "fft"], int, list[Tensor], Any], None]


class ProductCounter(fx.Interpreter):
    """Runs a graph and tells what each of its function calls multiplies.

    Args:
        graph_module: the graph; it is not changed.
        counted: called with (node, kind, multiply-adds, input tensors, output) for every function
            that multiplies.
    """

    def __init__(self, graph_module: fx.GraphModule, counted: _Counted) -> None:
        super().__init__(graph_module)
        self._counted = counted

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; a function is counted while it runs."""
        if n.op != "call_function":
            return super().run_node(n)
        with FlopCounterMode(display=False, custom_mapping=_FFT) as counter:
            result = super().run_node(n)
        # torch counts floating-point operations: two for each multiply-add.
        macs = counter.get_total_flops() // 2
        if macs:
            is_fft = any(op in _FFT for op in counter.get_flop_counts()["Global"])
            taken = [value for item in n.all_input_nodes if _is_tensor(value := self.env[item])]
            self._counted(n, "fft" if is_fft else "product", macs, taken, result)
        return result


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _fft(sides: Sequence[int], axes: Sequence[int], *, real: bool) -> int:
    """Operations of Cooley and Tukey's algorithm, 5 n log2 n for n complex points."""
    points = math.prod(sides[axis] for axis in axes)
    transforms = math.prod(sides) // points
    return round(5 * points * math.log2(points) * transforms / (2 if real else 1))


def _complex(shape: Sequence[int], axes: Sequence[int], *_: Any, **__: Any) -> int:
    return _fft(shape, axes, real=False)


def _from_real(shape: Sequence[int], axes: Sequence[int], *_: Any, **__: Any) -> int:
    return _fft(shape, axes, real=True)


def _to_real(_: Any, axes: Sequence[int], *__: Any, out_shape: Sequence[int], **___: Any) -> int:
    return _fft(out_shape, axes, real=True)


_FFT = {aten._fft_c2c: _complex, aten._fft_r2c: _from_real, aten._fft_c2r: _to_real}
