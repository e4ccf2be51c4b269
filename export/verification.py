"""What came of comparing an exported network with its torch original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Check", "Verification"]


@dataclass(frozen=True)
class Check:
    """One figure that has a limit."""

    name: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def rule(self) -> str:
        return "<=" if self.at_most else ">="

    def __str__(self) -> str:
        return f"{self.name} is {self.value:.4g}, asked for {self.rule} {self.limit:.4g}"


@dataclass(frozen=True)
class Verification:
    """What was compared, and what came of it.

    Attributes:
        images: number of images compared.
        figures: the agreement of the whole graph in the terms of the network's task.
        checks: the figures that decide.
        selection: per WCC layer, the share of selected positions that agree in the whole graph.
    """

    images: int
    figures: dict[str, float]
    checks: list[Check]
    selection: dict[str, float]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "figures": self.figures,
            "checks": [
                {
                    "name": check.name,
                    "value": check.value,
                    "rule": check.rule,
                    "limit": check.limit,
                    "passed": check.passed,
                }
                for check in self.checks
            ],
            "selection": self.selection,
            "passed": self.passed,
        }
