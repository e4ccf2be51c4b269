"""Read a small YAML file of plain values, with the line that each value stands on.

A hand-written document has mappings, lists, texts and numbers. Everything else that YAML can do,
above all what makes a short text expand or run code, is refused; so are repeated keys, of which
YAML readers keep the last in silence.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from waveedge.errors import RecipeError
from waveedge.files import require_regular

__all__ = ["Lines", "read_plain_yaml"]

Lines = dict[tuple[str | int, ...], int]
"""The line, from 1, of every value by the path of keys and indices to it."""

_MOST_BYTES = 2**16
_MOST_ITEMS = 1000
_DEEPEST = 16
_LONGEST_NUMBER = 40

_TAG = "tag:yaml.org,2002:"


class _SenselessError(Exception):
    """Valid YAML that is no plain document: (what is wrong, the node it stands at)."""


def read_plain_yaml(path: Path, *, what: str) -> tuple[Any, Lines]:
    """Read ``path``.

    Args:
        what: name of the kind of document, for messages.

    Returns:
        (the value, made of dict, list, str, int, float, bool and None; where each part stands).

    Raises:
        InputError: the path is no regular file.
        RecipeError: the file is missing, too long, not YAML, or more than a plain document.
    """
    text = _text(path, what)
    lines: Lines = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        return (None if node is None else _value(node, (), lines)), lines
    except _SenselessError as error:
        problem, line = error.args
        raise RecipeError(
            f"the {what} {path} does not make sense: line {line}: {problem}",
            hint=f"A {what} is a plain YAML mapping, for example: bits: 4",
        ) from error
    # Of its own errors yaml lets some through as they come: numbers in directives and escapes.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise RecipeError(
            f"the {what} {path} is not valid YAML: {_problem(error, text)}",
            hint=f"A {what} is a YAML mapping, for example: bits: 4",
        ) from error


def _text(path: Path, what: str) -> str:
    require_regular(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError(
            f"cannot read the {what} {path}: {error.strerror}", hint="Check the path."
        ) from error
    if len(content) > _MOST_BYTES:
        raise RecipeError(
            f"the {what} {path} is too long",
            hint=f"At most {_MOST_BYTES // 1024} KiB are read. Use patterns such as layers.3.*",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"the {what} {path} is not valid YAML: line {line} is no UTF-8 text",
            hint="Save it as UTF-8.",
        ) from error


def _problem(error: Exception, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        return f"{where}{error.problem or error.context}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: the character {text[error.position]!r} is not allowed"
    return str(error).splitlines()[0]


class _Loader(yaml.SafeLoader):
    """Composes nodes to a bounded depth, and no aliases: nested ones expand without end."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise _SenselessError("an alias (*name); write the value itself", line)
        if self._depth >= _DEEPEST:
            raise _SenselessError(f"values nested more than {_DEEPEST} deep", line)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _value(node: Node, path: tuple[str | int, ...], lines: Lines) -> Any:
    lines[path] = node.start_mark.line + 1
    if not isinstance(node, ScalarNode) and len(node.value) > _MOST_ITEMS:
        raise _SenselessError(
            f"{len(node.value)} items; at most {_MOST_ITEMS} are taken", lines[path]
        )
    if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
        return [_value(item, (*path, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
        return _mapping(node, path, lines)
    if isinstance(node, ScalarNode) and node.tag in _SCALARS:
        return _scalar(node)
    raise _SenselessError(f"a value of the type {node.tag.removeprefix(_TAG)}", lines[path])


def _mapping(node: MappingNode, path: tuple[str | int, ...], lines: Lines) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key_node, ScalarNode) or key_node.tag != f"{_TAG}str":
            raise _SenselessError("a key that is no text; put it in quotes", line)
        if key in values:
            raise _SenselessError(
                f"{key} is given twice, first on line {lines[(*path, key)]}", line
            )
        values[key] = _value(value_node, (*path, key), lines)
        lines[(*path, key)] = line
    return values


def _scalar(node: ScalarNode) -> Any:
    kind = node.tag.removeprefix(_TAG)
    try:
        if kind != "str" and len(node.value) > _LONGEST_NUMBER:
            raise ValueError("too long")
        return _SCALARS[node.tag](yaml.SafeLoader(""), node)
    except (ValueError, LookupError) as error:
        line = node.start_mark.line + 1
        raise _SenselessError(f"{reprlib.repr(node.value)} is no {kind}", line) from error


_SCALARS = {
    f"{_TAG}str": yaml.SafeLoader.construct_yaml_str,
    f"{_TAG}int": yaml.SafeLoader.construct_yaml_int,
    f"{_TAG}float": yaml.SafeLoader.construct_yaml_float,
    f"{_TAG}bool": yaml.SafeLoader.construct_yaml_bool,
    f"{_TAG}null": yaml.SafeLoader.construct_yaml_null,
}
