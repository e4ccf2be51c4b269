"""A pass for OpenVINO: an average that counts zeros around a map reads them as part of the map.

OpenVINO (2026.4) averages the bytes of a quantized map and takes its zero point away afterwards;
the zeros that the pool itself pads with are bytes of 0, which stand for the lowest number of the
grid. A map that is padded on its grid before has the byte of the zero point there.

1. ``DequantizeLinear -> AveragePool`` with padding that counts: padded, quantized and dequantized
   on the same grid in between, and the pool pads nothing. Zero is on every grid.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from waveedge.export.graph_editing import constant, new_node, pads_of, producer
from waveedge.export.passes.base import NodePass

__all__ = ["PadAverages"]


class PadAverages(NodePass):
    """Zeros that an average counts are padded on the grid of its input. Exact, to the bit.

    Runs on uint8 activations.
    """

    exact = True

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        if node.op_type != "AveragePool":
            return False
        pads, counted = pads_of(node), node.attributes.get_int("count_include_pad", 0)
        read = producer(node.inputs[0], "DequantizeLinear")
        if not pads or not any(pads) or not counted or read is None:
            return False
        rank = len(pads) // 2
        amounts = np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], np.int64)
        padded = new_node(
            node, "Pad", [node.inputs[0], constant(graph, f"{node.name}/pads", amounts)]
        )
        grid = read.inputs[1:]
        write = new_node(
            node, "QuantizeLinear", [padded.outputs[0], *grid], dtype=ir.DataType.UINT8
        )
        again = new_node(node, "DequantizeLinear", [write.outputs[0], *grid])
        graph.insert_before(node, [padded, write, again])
        node.replace_input_with(0, again.outputs[0])
        node.attributes["pads"] = ir.AttrInt64s("pads", [0] * len(pads))
        return True
