"""``waveedge fit-cost``: what operators cost on this machine, as a cost profile."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import yaml

from waveedge import console
from waveedge.export.fit_cost import fit_cost
from waveedge.filetypes import COST_PROFILE_HEADER
from waveedge.outputs import COST_PROFILE, check_output, new_file

__all__ = ["run"]


def run(target: Path, *, overwrite: bool, as_json: bool) -> None:
    """Measure, and write the profile to ``target``.

    Raises:
        OutputError: ``target`` must not be replaced, or cannot be written.
    """
    check_output(target, COST_PROFILE, overwrite=overwrite)
    with console.progress_bar() as progress:
        profile = fit_cost(target.stem or "fitted", progress=partial(progress, "measuring"))
    fields = profile.model_dump()
    with new_file(target, COST_PROFILE, overwrite=overwrite) as temporary:
        text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
        temporary.write_text(f"{COST_PROFILE_HEADER}\n{text}", encoding="utf-8")
    if as_json:
        console.print_json({"profile": str(target), **fields})
        return
    console.table(
        "What costs as much as how many multiply-adds",
        ("", "multiply-adds"),
        [
            ("moving an element", f"{profile.element:g}"),
            ("interleaving an element", f"{profile.shuffle:g}"),
            ("running an operator", console.count(round(profile.node))),
        ],
    )
    console.out.print(f"{profile.fitted}\nwrote {target}", highlight=False, markup=False)
