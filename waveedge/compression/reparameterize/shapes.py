"""The shapes of a graph's values, found without computing them.

Every rewrite asks for them, and most of what it asks is known from the last time: a layer of the
same kind, its hyperparameters and its input's shape alike. So what torch says is kept.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode

from waveedge.meta import on_meta
from waveedge.normalise.capture import float_dtype

__all__ = ["Shapes"]

_KEPT = 10_000
_OURS = ("torch.nn.", "waveedge.")
_INTERNAL = vars(nn.Module()).keys()


class Shapes(dict[fx.Node, Any]):
    """The shape of every value in a graph, for one image of shape ``image`` (1, C, H, W)."""

    def __init__(self, graph_module: fx.GraphModule, image: tuple[int, ...]) -> None:
        super().__init__()
        self.image = image
        self.refresh(graph_module)

    def refresh(self, graph_module: fx.GraphModule) -> None:
        """Find the shapes of new nodes, by running them on tensors that hold no data.

        Nodes that are known are not run again: a rewrite may change how a node is computed, not
        what it yields.
        """
        try:
            with torch.device("meta"):
                self._run(_OnMeta(graph_module, self))
        except Exception:
            # An operation that has no kernel there, or makes tensors on the CPU. Fake tensors know
            # how to go on, but take several times as long for every operation.
            with FakeTensorMode(allow_non_fake_inputs=True):
                self._run(_Recorder(graph_module, self))

    def _run(self, recorder: _Recorder) -> None:
        with torch.no_grad():
            recorder.run(torch.empty(self.image, dtype=recorder.dtype))


class _Recorder(fx.Interpreter):
    """Runs the nodes whose shapes are not known yet, and notes these."""

    def __init__(self, graph_module: fx.GraphModule, shapes: Shapes) -> None:
        super().__init__(graph_module)
        self.shapes = shapes
        self.dtype = float_dtype(graph_module)

    def run_node(self, n: fx.Node) -> Any:
        if n in self.shapes:
            return _empty(self.shapes[n], self.dtype)
        result = super().run_node(n)
        self.shapes[n] = _shape(result)
        return result


class _OnMeta(_Recorder):
    """The same on torch's meta device, with what is known of other graphs."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        return _known((module, args, kwargs), lambda: on_meta(module)(*args, **kwargs))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _known((target, args, kwargs), lambda: target(*args, **kwargs))

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return super().get_attr(target, args, kwargs).to("meta")


class _Like(NamedTuple):
    """A tensor without its data."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class _OpenError(Exception):
    """What a call yields cannot be told by the looks of what it is given."""


_seen: dict[Hashable, Any] = {}


def _known(call: tuple[Any, ...], run: Callable[[], Any]) -> Any:
    """What a call yields, from memory if the like was called before."""
    try:
        looks = _signature(call)
    except _OpenError:
        return run()
    if looks not in _seen:
        if len(_seen) >= _KEPT:
            _seen.clear()
        _seen[looks] = _looks(run())
    return _made(_seen[looks])


def _signature(value: Any) -> Any:
    """What decides over the shapes that a value leads to; hashable."""
    if isinstance(value, Tensor):
        return _Like(tuple(value.shape), value.dtype)
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device)):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), *map(_signature, value)
    if isinstance(value, slice):
        return slice, *map(_signature, (value.start, value.stop, value.step))
    if isinstance(value, dict):
        return dict, *((key, _signature(item)) for key, item in value.items())
    if isinstance(value, nn.Module):
        return _layer(value)
    if _is_torchs(value):
        return value
    raise _OpenError


def _layer(module: nn.Module) -> Hashable:
    kind, state = type(module), vars(module)
    hooks = module._forward_hooks or module._forward_pre_hooks
    if hooks or not f"{kind.__module__}.".startswith(_OURS):
        raise _OpenError
    own = {name: value for name, value in state.items() if name not in _INTERNAL}
    if any(isinstance(value, (Tensor, nn.Module)) for value in own.values()):
        raise _OpenError
    parts = (own, module._parameters, module._buffers, module._modules)
    return kind, *map(_signature, map(dict, parts))


def _is_torchs(function: Any) -> bool:
    """Whether it is an operation of torch or Python, whose result's shape the arguments' give."""
    if isinstance(function, OpOverload):
        return function.namespace == "aten"
    if not callable(function) or isinstance(function, type):
        return False
    where = getattr(function, "__module__", None) or ""
    of_torch = getattr(torch, getattr(function, "__name__", ""), None) is function
    return of_torch or where == operator.add.__module__ or f"{where}.".startswith("torch.")


def _looks(value: Any) -> Any:
    """A result without its data."""
    if isinstance(value, Tensor):
        return _Like(tuple(value.shape), value.dtype)
    return type(value)(map(_looks, value)) if type(value) in (tuple, list) else value


def _made(looks: Any) -> Any:
    """A result of such looks."""
    if isinstance(looks, _Like):
        return torch.empty(looks.shape, dtype=looks.dtype, device="meta")
    return type(looks)(map(_made, looks)) if type(looks) in (tuple, list) else looks


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (tuple, list)):
        return [_shape(item) for item in value]
    return value if isinstance(value, int) else None  # a size that the network computes with


def _empty(shape: Any, dtype: torch.dtype) -> Any:
    """What has this shape: a tensor without data, or a list of such."""
    if isinstance(shape, tuple):
        return torch.empty(shape, dtype=dtype)
    return [_empty(item, dtype) for item in shape] if isinstance(shape, list) else shape
