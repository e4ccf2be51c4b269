"""What a network costs: multiply-adds, operations by bit width, parameters, feature maps.

The network runs once without data (on torch's meta device), and hooks on its layers note the
shapes; :mod:`waveedge.macs` says what counts as how much, and :mod:`waveedge.products` what the
functions between them do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.hooks import RemovableHandle

from waveedge.errors import InputError
from waveedge.macs import Kind, layers_of, multiply_adds
from waveedge.meta import on_meta
from waveedge.models.build import check_input_size
from waveedge.nn import (
    ActivationQuantizer,
    PublishedWCC,
    Selection,
    WeightQuantizer,
)
from waveedge.normalise import normalise
from waveedge.products import ProductCounter
from waveedge.spec import ModelSpec

__all__ = ["FLOAT_BITS", "Cost", "Kind", "LayerCost", "parameters", "profile"]

FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one image.

    Attributes:
        name: of the module in the network, or of the function's node in its normal form.
        type: class name of the module, or name of the function.
        kind: what it computes; ``conv1x1`` is a dense 1x1 convolution of any stride.
        macs: multiply-adds, transforms included.
        transform_macs: the part of ``macs`` that is wavelet transforms.
        params: parameters that training changes.
        input_shape: of the first input tensor at the first call, batch 1.
        output_shape: of the first output tensor at the first call, batch 1.
        output_bytes: size of all outputs, over all calls.
        peak_bytes: size of the outputs of the largest call.
        calls: how often the network runs the layer for one image.
        weight_bits: of the multiply-adds; 32 where not quantized.
        activation_bits: likewise, of the input.
    """

    name: str
    type: str
    kind: Kind
    macs: int
    transform_macs: int
    params: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    output_bytes: int
    peak_bytes: int
    calls: int = 1
    weight_bits: int = FLOAT_BITS
    activation_bits: int = FLOAT_BITS

    @property
    def is_layer(self) -> bool:
        """Whether a module computes it, not a function between modules."""
        return self.kind not in ("product", "fft")

    @property
    def bops(self) -> int:
        """Bit operations: multiply-adds x weight bits x activation bits (arXiv 2205.12268).

        Transforms are left out, as in the paper: a Haar transform only adds and halves.
        """
        return (self.macs - self.transform_macs) * self.weight_bits * self.activation_bits


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image of ``input_size`` (height, width).

    Attributes:
        layers: in the order of their first call.
        params: parameters that training changes, of the whole network.
        input_size: height and width in pixels.
    """

    layers: tuple[LayerCost, ...]
    params: int
    input_size: tuple[int, int]

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def transform_macs(self) -> int:
        """The part of :attr:`macs` that is wavelet transforms."""
        return sum(layer.transform_macs for layer in self.layers)

    @property
    def bops(self) -> int:
        """Bit operations of convolutions and linear layers."""
        return sum(layer.bops for layer in self.layers)

    @property
    def peak(self) -> LayerCost | None:
        """The layer with the largest output in bytes: the peak feature map."""
        return max(self.layers, key=lambda layer: layer.peak_bytes, default=None)

    def share(self, kind: Kind) -> float:
        """Share of the multiply-adds, 0 to 1; ``transform`` counts those inside layers too."""
        if kind == "transform":
            part = self.transform_macs
        else:
            part = sum(
                layer.macs - layer.transform_macs for layer in self.layers if layer.kind == kind
            )
        return part / self.macs if self.macs else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        return {
            "input_size": list(self.input_size),
            "params": self.params,
            "macs": self.macs,
            "transform_macs": self.transform_macs,
            "bops": self.bops,
            "peak_feature_map": asdict(self.peak) if self.peak else None,
            "shares": {
                kind: self.share(kind)
                for kind in (*dict.fromkeys(layer.kind for layer in self.layers), "transform")
            },
            "layers": [{**asdict(layer), "bops": layer.bops} for layer in self.layers],
        }


def profile(model: nn.Module, input_size: tuple[int, int], *, channels: int | None = None) -> Cost:
    """Count what a network costs for one image.

    The network is counted in its normal form, in which every operation with weights is a layer; one
    on torch's meta device, which has no data, as it stands.

    Args:
        model: any network that takes (1, C, H, W); it is not changed.
        input_size: (height, width) in pixels.
        channels: C; told from ``model.spec`` or else from the first convolution.

    Raises:
        InputError: the network does not take an image of this size.
        ExportError: its code cannot be brought into the normal form.
    """
    spec = getattr(model, "spec", None)
    if isinstance(spec, ModelSpec):
        check_input_size(spec, input_size)
        channels = channels or spec.channels
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    channels = channels or (first.in_channels if first is not None else 3)

    shape = (1, channels, *input_size)
    known = isinstance(model, fx.GraphModule) or _has_no_data(model)
    graph = model if known else normalise(model, shape[1:])
    recorder = _Recorder(on_meta(graph))
    try:
        with recorder, torch.no_grad(), torch.device("meta"):
            recorder(torch.zeros(shape))
    except Exception:
        # Some code looks at values or makes tensors on the CPU: run it on real zeros.
        recorder = _Recorder(graph)
        try:
            with recorder, torch.no_grad():
                recorder(torch.zeros(shape))
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"the network fails on an input of shape {shape}: {reason}",
                hint="Try another --input-size.",
            ) from error
    return Cost(
        layers=tuple(recorder.rows.values()),
        params=parameters(model),
        input_size=(input_size[0], input_size[1]),
    )


def _has_no_data(model: nn.Module) -> bool:
    """Whether the network was built on torch's meta device, to be counted alone."""
    return any(tensor.is_meta for tensor in model.parameters())


class _Recorder:
    """Runs a network; hooks on its layers, and a counter of its functions, fill ``rows``."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.rows: dict[str, LayerCost] = {}
        self._layers = [(name, layer, parameters(layer)) for name, layer in layers_of(model)]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module, params in self._layers:
            self._handles.append(module.register_forward_hook(self._hook(name, params)))

    def __call__(self, x: Tensor) -> None:
        if isinstance(self.model, fx.GraphModule):
            ProductCounter(self.model, self._add_function).run(x)
        else:
            self.model(x)

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str, params: int) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, inputs: Any, outputs: Any) -> None:
            taken, given = list(_tensors(inputs)), list(_tensors(outputs))
            if not taken or not given:
                return
            if isinstance(module, ActivationQuantizer):
                # The layer that reads this tensor multiplies numbers of so many bits.
                given[0].__dict__["waveedge_bits"] = module.bits
                return
            counted = multiply_adds(module, taken, given)
            kind, bits = type(module).__name__, _bits(module, taken[0])
            self._add(_row(name, kind, counted, taken, given, params=params, bits=bits))

        return record

    def _add_function(
        self, node: fx.Node, kind: Kind, macs: int, taken: list[Tensor], output: Any
    ) -> None:
        given = list(_tensors(output))
        if taken and given:
            operation = str(getattr(node.target, "__name__", node.target)).split(".")[0]
            self._add(_row(node.name, operation, (kind, macs, 0), taken, given))

    def _add(self, call: LayerCost) -> None:
        before = self.rows.get(call.name)
        if before is None:
            self.rows[call.name] = call
            return
        self.rows[call.name] = replace(
            before,
            macs=before.macs + call.macs,
            transform_macs=before.transform_macs + call.transform_macs,
            output_bytes=before.output_bytes + call.output_bytes,
            peak_bytes=max(before.peak_bytes, call.peak_bytes),
            calls=before.calls + 1,
        )


def _row(
    name: str,
    operation: str,
    counted: tuple[Kind, int, int],
    taken: list[Tensor],
    given: list[Tensor],
    *,
    params: int = 0,
    bits: tuple[int, int] = (FLOAT_BITS, FLOAT_BITS),
) -> LayerCost:
    """One call of a layer or function, as :func:`~waveedge.macs.multiply_adds` counted it."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in given)
    return LayerCost(
        name=name,
        type=operation,
        kind=counted[0],
        macs=counted[1],
        transform_macs=counted[2],
        params=params,
        input_shape=tuple(taken[0].shape),
        output_shape=tuple(given[0].shape),
        output_bytes=size,
        peak_bytes=size,
        weight_bits=bits[0],
        activation_bits=bits[1],
    )


def _bits(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Bits of a layer's weights and of its input."""
    if isinstance(module, Selection):
        return module.weight_bits, module.activation_bits
    if isinstance(module, PublishedWCC):
        return module.weight_quant.bits, module.act_quant.bits
    quantizer = getattr(module, "weight_quantizer", None)
    weight_bits = quantizer.bits if isinstance(quantizer, WeightQuantizer) else FLOAT_BITS
    return weight_bits, int(x.__dict__.get("waveedge_bits", FLOAT_BITS))


def parameters(module: nn.Module) -> int:
    """How many numbers training changes, or of all parameters where every one is frozen.

    A parameter that several layers share counts once.
    """
    held = list(module.parameters())
    trained = [tensor for tensor in held if tensor.requires_grad] or held
    return sum(tensor.numel() for tensor in trained)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
