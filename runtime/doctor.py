"""What a machine is as a place to run bundles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from waveedge.runtime.findings import Findings, find
from waveedge.runtime.prescriptions import Advice, Verdict, advise, judge

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found.

    Attributes:
        found: the machine, its libraries, memory and disk.
        targets: whether the bundles of each target run here.
        advice: settings to change before measuring.
    """

    found: Findings
    targets: tuple[Verdict, ...]
    advice: tuple[Advice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values; what is not known is None. Sizes are bytes."""
        found = {key: value for key, value in asdict(self.found).items() if key != "machine"}
        return {
            "machine": self.found.machine.to_dict(),
            **found,
            "bindings": list(self.found.bindings),
            "libraries": {
                name: {**asdict(library), "details": list(library.details)}
                for name, library in self.found.libraries.items()
            },
            "power_modes": {
                "current": self.found.machine.power_mode,
                "names": {str(key): name for key, name in self.found.power_modes.names.items()},
            },
            "targets": [asdict(verdict) for verdict in self.targets],
            "advice": [asdict(item) for item in self.advice],
        }


def diagnose(found: Findings | None = None, targets: Iterable[str] | None = None) -> Diagnosis:
    """Describe a machine, judge what runs on it, and say what would help.

    Nothing is changed, and nothing is raised for a fact that cannot be had. Libraries are imported
    in processes of their own, a few seconds in all.

    Args:
        found: what was found; by default on this machine.
        targets: names of targets; by default all that are known.
    """
    found = find() if found is None else found
    return Diagnosis(found, tuple(judge(found, targets)), tuple(advise(found)))
