"""torch module -> onnx-ir model, one to one, by torch's own (dynamo) exporter."""

from __future__ import annotations

import logging
import warnings
from ast import literal_eval
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import onnx_ir as ir
import torch
from torch import fx, nn

import waveedge
from waveedge.errors import ExportError
from waveedge.export.fake_quantize import translation_table
from waveedge.export.operator_table import one_table_of_operators
from waveedge.export.origins import note_origin
from waveedge.export.passes.slice_bounds import ResolveSliceBounds
from waveedge.nn import Selection
from waveedge.runtime.sizes import SizeRange

__all__ = ["INPUT", "OPSET", "Batch", "to_onnx"]

Batch = int | Literal["dynamic"]

OPSET = 20
"""The first with Gelu as one node, and the last that TensorRT 10.3 reads."""

INPUT = "input"
OUTPUT = "output"


def to_onnx(
    model: nn.Module,
    shape: tuple[int, int, int],
    *,
    batch: Batch = 1,
    sizes: SizeRange | None = None,
) -> ir.Model:
    """Writes a torch module as an ONNX graph with ``FakeQuantize`` nodes in it.

    Args:
        model: in eval mode; takes one float32 tensor (N, C, H, W). It is not changed.
        shape: (C, H, W) of the input; these are static, but for H and W with ``sizes``.
        batch: N, or "dynamic".
        sizes: of images that the graph is to take, its height and width being free.

    Returns:
        A model with input ``input`` and outputs ``output`` (or ``output_0``, ``output_1``, ...).
        Nodes are named ``module.path/Operator`` and carry their origin as metadata.

    Raises:
        ExportError: torch cannot trace the network, or its graph fixes a dynamic batch or size.
    """
    dynamic = batch == "dynamic"
    free: dict[int, object] = {0: torch.export.Dim("batch")} if dynamic else {}
    extents = shape[1:]
    if sizes is not None:
        _refuse_selections(model)
        free |= _free_sizes(sizes)
        extents = _example_size(sizes)
    # torch takes a batch of one for a constant, so a dynamic batch is traced with two.
    example = torch.zeros(2 if dynamic else int(batch), shape[0], *extents)
    with torch.no_grad(), _quiet(), _own_module_paths(model), one_table_of_operators():
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                dynamic_shapes=(free,) if free else None,
                custom_translation_table=translation_table(),
                optimize=False,  # quadratic in the size of the graph; see _tidy
                verbose=False,
            )
        except Exception as error:  # torch raises whatever the traced code raises
            raise ExportError(
                f"torch cannot export this network: {_innermost(error)}",
                hint="The forward must be traceable by torch.export: no Python decision may "
                "depend on the values of a tensor."
                + (" Try --batch 1: a dynamic batch asks more." if dynamic else "")
                + (" Or export at one size with --input-size HxW." if sizes else ""),
            ) from error
    assert program is not None
    onnx_model: ir.Model = program.model
    if dynamic and isinstance(_dimensions(onnx_model.graph.inputs[0])[0], int):
        raise ExportError(
            "the network's code fixes the batch size, so the batch cannot be dynamic",
            hint="Export with --batch N.",
        )
    if sizes is not None:
        _forget_sizes(onnx_model.graph)
    _tidy(onnx_model)
    _name_outputs(onnx_model.graph, getattr(model, "output_names", None))
    if sizes is not None:
        _name_sizes(onnx_model.graph)
    _name_nodes(onnx_model.graph)
    _sign(onnx_model)
    return onnx_model


_AXES = {2: "height", 3: "width"}


def _free_sizes(sizes: SizeRange) -> dict[int, object]:
    """What torch is told about height and width: by which steps they grow, and from where.

    Knowing that, it finds maps on two ways through the network to be alike that are.
    """
    found: dict[int, object] = {}
    for (axis, name), extent, step in zip(
        _AXES.items(), sizes.calibrated, sizes.multiple, strict=True
    ):
        count = torch.export.Dim(name)
        scaled = count * step if step > 1 else count
        found[axis] = scaled + extent % step if extent % step else scaled
    return found


def _refuse_selections(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, Selection):
            raise ExportError(
                f"{path} keeps a share of the wavelet coefficients, which is another number at "
                "every size: height and width cannot stay free",
                hint="Export at one size with --input-size HxW, or compress with --wcc-ratio 1.",
            )


def _example_size(sizes: SizeRange) -> tuple[int, int]:
    """An image that tells height from width, with no map of one pixel: torch fixes these."""
    (height, width), (rows, columns) = sizes.calibrated, sizes.multiple
    height, width = height + rows, width + 2 * columns
    return height, width if width != height else width + columns


def _forget_sizes(graph: ir.Graph) -> None:
    """Drops torch's formulas of height and width, which no reader of the graph understands."""
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.shape is not None:
            dims = [d if isinstance(d, int) or d.value == "batch" else None for d in value.shape]
            value.shape = ir.Shape(dims)


def _name_sizes(graph: ir.Graph) -> None:
    """Names the free axes of images: ``height`` of the input, ``output_height`` of an output."""
    for value in (*graph.inputs, *graph.outputs):
        if value.shape is None or len(value.shape) != 4:
            continue
        before = "" if value in graph.inputs else f"{value.name}_"
        for axis, name in _AXES.items():
            if not isinstance(value.shape[axis], int):
                value.shape[axis] = f"{before}{name}"


def _tidy(model: ir.Model) -> None:
    """Folds shape arithmetic and makes every constant an initializer, for the passes that follow.

    The exporter's own optimiser also does this, but matches rewrite rules in time quadratic in the
    number of nodes, most of the time that a large network takes. What it finds beyond this, onnxsim
    finds at the end.
    """
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    fold_constants(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    ResolveSliceBounds()(model)
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


def _name_outputs(graph: ir.Graph, names: Sequence[str] | None) -> None:
    """Names outputs as the user's network does, else ``output``, numbered if several."""
    outputs = graph.outputs
    if names is None or len(names) != len(outputs):
        names = [OUTPUT] if len(outputs) == 1 else [f"{OUTPUT}_{i}" for i in range(len(outputs))]
    taken = {value.name for node in graph for value in node.outputs} | {INPUT}
    for value, name in zip(outputs, names, strict=True):
        value.name = f"{name}_" if name in taken and value.name != name else name


def _name_nodes(graph: ir.Graph) -> None:
    """Names nodes by module path and drops the exporter's notes, which hold paths of source files.

    A reader, the lint and TensorRT's messages all speak of nodes by these names.
    """
    seen: Counter[str] = Counter()
    for node in graph.all_nodes():
        scopes = literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        layer = scopes[-2] if len(scopes) > 1 else ""
        name = f"{layer}/{node.op_type}" if layer else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        node.metadata_props.clear()
        note_origin(node, layer, seen[name] - 1)
        for value in (*node.inputs, *node.outputs):
            if value is not None:
                value.metadata_props.clear()


def _sign(model: ir.Model) -> None:
    model.producer_name, model.producer_version = "waveedge", waveedge.__version__
    model.graph.name = "waveedge"
    model.metadata_props.clear()
    model.graph.metadata_props.clear()


def _dimensions(value: ir.Value) -> tuple[int | str | None, ...]:
    assert value.shape is not None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape.dims)


def _innermost(error: BaseException) -> str:
    """The first line of the exception that started a chain of others."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _own_module_paths(model: nn.Module) -> Iterator[None]:
    """Hides the module paths that torch.fx noted when it traced a part of the model.

    torch.export would take them over, and they end at the leaves of that older trace: quantizers
    and transforms inside a layer would all carry the layer's name.
    """
    nodes = [
        node
        for module in model.modules()
        if isinstance(module, fx.GraphModule)
        for node in module.graph.nodes
    ]
    notes = [node.meta for node in nodes]
    try:
        for node in nodes:
            node.meta = {key: node.meta[key] for key in node.meta if key != "nn_module_stack"}
        yield
    finally:
        for node, meta in zip(nodes, notes, strict=True):
            node.meta = meta


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says about itself: optional packages, its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
