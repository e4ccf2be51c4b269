"""Boards that are measured from the desk, over the OpenSSH client.

``ssh`` reaches a board, ``remote`` installs waveedge there, ``job`` copies a bundle, runs
``waveedge bench`` on it detached and brings the result home, ``boards`` reads which ones,
``measure`` does it on all of them at once, ``summary`` makes one table and picture of it, ``forms``
and ``further`` more tables.
"""

from __future__ import annotations

from waveedge.fleet.boards import Board, read_boards
from waveedge.fleet.measure import Outcome, measure
from waveedge.fleet.summary import rows, save_plot

__all__ = ["Board", "Outcome", "measure", "read_boards", "rows", "save_plot"]
