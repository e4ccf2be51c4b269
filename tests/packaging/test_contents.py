"""What is in the source distribution and in the wheel, and what the wheel says of itself."""

from __future__ import annotations

import re
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import waveedge

ROOT = Path(__file__).parents[2]
ROOMS = ("calibration", "export", "runtime")


@pytest.fixture
def about(built: Any) -> Message:
    """The metadata of the wheel."""
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        return Parser().parsestr(wheel.read(name).decode())


def test_the_sdist_has_every_file_of_the_tree(built: Any) -> None:
    assert len(built.tree) > 300
    assert sorted(file for file in built.tree if not (built.sdist / file).exists()) == []


def test_the_wheel_has_the_rooms_and_nothing_else(built: Any) -> None:
    tops = {room: f"waveedge/{room}" for room in ROOMS} | {"waveedge": "waveedge"}
    modules = {
        tops[top] + file.removeprefix(top)
        for file in built.tree
        if (top := file.partition("/")[0]) in tops and file.endswith(".py")
    }
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert modules == {name for name in names if name.endswith(".py")}
    others = names - modules - {"waveedge/py.typed"}
    assert {str(Path(name).parent) for name in others} == {"waveedge/calibration/photos"}
    assert "waveedge/calibration/photos/LICENSES.md" in others
    assert built.wheel.stat().st_size < 1.5e6


def test_the_version_is_one(about: Message) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert about["Version"] == waveedge.__version__ == re.findall(r"^## (\S+)", changelog, re.M)[0]


def test_a_device_gets_no_torch(about: Message) -> None:
    needed = about.get_all("Requires-Dist") or []
    base = {re.split(r"[^\w-]", line)[0] for line in needed if "extra ==" not in line}
    assert base == {"numpy", "onnxruntime", "rich", "typer"}
    assert not any('"device"' in line for line in needed)
    assert any(line.startswith("torch>=") and '"desk"' in line for line in needed)


def test_the_page_of_the_package_has_no_links_that_lead_nowhere(about: Message) -> None:
    page = about.get_payload()
    assert isinstance(page, str)
    assert page.startswith("# waveedge")
    assert "`docs/python.md`" in page
    assert re.findall(r"\]\((?!https://)[^)]*\)", page) == []
