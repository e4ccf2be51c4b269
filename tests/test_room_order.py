"""No room imports a higher one, and no module imports itself by a way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("waveedge", "export", "runtime", "calibration")

BELOW = {
    "runtime": set[str](),
    "nn": set[str](),
    "models": {"nn"},
    "normalise": {"nn", "models"},
    "calibration": {"nn", "models"},
    "compression": {"nn", "models", "normalise", "calibration", "runtime"},
    "serialize": {"nn", "models", "normalise", "compression"},
    "export": {"nn", "models", "normalise", "calibration", "compression", "runtime"},
    "fleet": {"runtime"},
    "commands": {"models", "calibration", "compression", "export", "runtime", "fleet"},
}
"""Folder -> folders that it may import; what lies in none of them is common ground."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "waveedge" else ("waveedge", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def imported(module: str) -> Iterator[tuple[str, bool]]:
    """Modules of waveedge that one imports, and whether it does so as it is imported itself."""
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = {id(node) for node in tree.body}
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name in MODULES and name != module:
                yield name, id(node) in at_once


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_lower_ones_alone(room: str) -> None:
    found = {
        f"{module} imports {name}"
        for module in MODULES
        if room_of(module) == room
        for name, _ in imported(module)
        if room_of(name) in BELOW and room_of(name) not in {room, *BELOW[room]}
    }
    assert not found


def test_imports_have_an_order() -> None:
    """A package's ``__init__`` gathers what its modules make: these may read each other."""
    graph = {
        module: {
            name
            for name, at_once in imported(module)
            if at_once and MODULES[name].name != "__init__.py"
        }
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(graph).prepare()  # raises CycleError
