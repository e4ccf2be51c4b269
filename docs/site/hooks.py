"""What the site makes of files that are written for the repository.

The README is the front page; links that leave ``docs/`` become text, as a site holds no sources.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: Any) -> Files:
    """Add the front page, and the pages that stand in the root for whoever opens it first."""
    for name, page in (("README.md", "index.md"), ("CONTRIBUTING.md", "contributing.md")):
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Turn links to what the site does not have into text."""

    def linked(match: re.Match[str]) -> str:
        path = match[2].partition("#")[0]
        known = not path or files.get_file_from_path(path) is not None
        return match[0] if known else match[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)]+)\)", linked, markdown)
