"""A graph of layers as plain JSON and tensors, and back; no name in a file is ever imported.

graph -> nodes, kinds of layers with their arguments, tensors -> graph
"""

from .graph import GraphRecord, describe_graph, rebuild_graph
from .tensors import TensorRecord, fill, read_tensors, stored_tensors

__all__ = [
    "GraphRecord",
    "TensorRecord",
    "describe_graph",
    "fill",
    "read_tensors",
    "rebuild_graph",
    "stored_tensors",
]
