"""Docstrings as Markdown: cross-references of Sphinx become code, and ``::`` a colon."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Plain(griffe.Extension):
    """Rewrites every docstring before it is parsed, and names what has two meanings."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        text = re.sub(r":\w+:`~?([\w.]+)`", lambda match: f"`{match[1]}`", obj.docstring.value)
        text = re.sub(r"^(\s*)::$", r"\1For example:", text, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """``waveedge.export`` is a room and a verb; only the room can be looked into."""
        member = mod.members.get("export")
        if mod.path == "waveedge" and member is not None and member.is_alias:
            mod.del_member("export")
