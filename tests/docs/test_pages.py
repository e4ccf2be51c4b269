"""Pages of the documentation run as they stand, and print what they say they print."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import waveedge
from waveedge.compression.reparameterize import pipeline
from waveedge.export.targets import TARGETS
from waveedge.models.families import FAMILIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

EXECUTED = (
    "architecture.md",
    "adding-a-rewrite.md",
    "adding-a-family.md",
    "adding-a-target.md",
)


def run(page: Path) -> list[tuple[str, str]]:
    """Run the Python of a page; return what each part printed, and what the page says it prints."""
    pattern = r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?"
    names: dict[str, Any] = {"__name__": "page"}
    printed = []
    for code, output in re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            exec(compile(code, str(page), "exec"), names)
        printed.append((stream.getvalue(), output))
    return printed


@pytest.mark.parametrize("name", EXECUTED)
def test_a_page_runs_and_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What pages add to is given back its content.
    monkeypatch.setattr(pipeline, "REWRITES", pipeline.REWRITES)
    monkeypatch.setitem(FAMILIES, "plain", FAMILIES["wavemix"])
    monkeypatch.setitem(TARGETS, "npu", TARGETS["onnx"])
    printed = run(DOCS / name)
    assert any(output for _, output in printed)
    for found, said in printed:
        assert found == said


def test_every_page_with_python_is_run() -> None:
    pages = {page.name for page in DOCS.glob("*.md") if "```python" in page.read_text("utf-8")}
    assert pages == {*EXECUTED, "python.md"}, "python.md runs in tests/test_public_api.py"


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    notebook = json.loads((DOCS / "from-checkpoint-to-bench.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "strip outputs"
    monkeypatch.chdir(DOCS)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["before"] > 0.8
    assert names["after"] > names["before"] - 0.02
    assert "interleaved pairs" in capsys.readouterr().out


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\((?!https?:)([^)]+)\)", text)


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
            assert anchor in slugs, f"{page.name}: {link}"


def test_every_family_is_described() -> None:
    table = (DOCS / "checkpoints.md").read_text("utf-8")
    for family in FAMILIES.values():
        assert f"| {family.title.split(' (')[0]} |" in table, f"{family.title} is not described"


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    described = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    errors = {name for name in waveedge.__all__ if name.endswith("Error")}
    assert "::: waveedge.errors\n" in text
    assert set(waveedge.__all__) - errors - {"__version__"} <= described
