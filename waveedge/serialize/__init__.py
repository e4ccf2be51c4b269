"""A graph of layers as plain JSON and tensors, and back; no name in a file is ever imported.

graph -> nodes, kinds of layers with their arguments, tensors -> graph
"""

from .container import read_metadata, read_tensors
from .graph_records import GraphRecord, describe_graph, rebuild_graph
from .tensors import TensorRecord, check_tensors, fill, stored_tensors

__all__ = [
    "GraphRecord",
    "TensorRecord",
    "check_tensors",
    "describe_graph",
    "fill",
    "read_metadata",
    "read_tensors",
    "rebuild_graph",
    "stored_tensors",
]
