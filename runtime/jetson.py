"""What an embedded NVIDIA board says of itself in files: releases, power modes, clocks, its fan.

Read as JetPack 5 to 7 lay these files out; none needs root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from waveedge.runtime.system_files import SystemFiles

__all__ = [
    "Fan",
    "PowerModes",
    "fan",
    "gpu_clock_fixed",
    "jetpack_release",
    "l4t_release",
    "power_modes",
]

_STATUS, _CONFIG = "var/lib/nvpmodel/status", "etc/nvpmodel.conf"

_PACKAGES = "var/lib/dpkg/status"
_PACKAGES_MOST = 64 << 20

# The first release of L4T -> the JetPack that it belongs to, newest first.
_JETPACKS = (
    ((39, 2), "7.2"),
    ((38, 4), "7.1"),
    ((38, 2), "7.0"),
    ((36, 4, 4), "6.2.1"),
    ((36, 4, 3), "6.2"),
    ((36, 4), "6.1"),
    ((36, 3), "6.0"),
    ((35, 1), "5"),
    ((32, 1), "4"),
)


@dataclass(frozen=True)
class PowerModes:
    """Power modes of a board.

    Attributes:
        current: the name of the mode it is in.
        names: numbers for ``nvpmodel -m`` -> names of all modes.
    """

    current: str | None
    names: dict[int, str]

    @property
    def unlimited(self) -> int | None:
        """The number of the mode without a power budget (MAXN, MAXN_SUPER).

        Numbers do not rise with speed: on an Orin Nano, the last one is the slowest.
        """
        numbers = [number for number, name in self.names.items() if name.startswith("MAXN")]
        return max(numbers, key=lambda number: len(self.names[number])) if numbers else None


@dataclass(frozen=True)
class Fan:
    """A fan: its drive from 0 to 1, and turns a minute; None where it does not tell."""

    drive: float | None
    rpm: int | None


def l4t_release(files: SystemFiles) -> str | None:
    """The release of NVIDIA's Linux for Tegra, such as 36.4.3."""
    first = (files.text("etc/nv_tegra_release") or "").partition("\n")[0]
    # "# R36 (release), REVISION: 4.3, GCID: ..."
    found = re.match(r"# R(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3})*)", first)
    return f"{found[1]}.{found[2]}" if found else None


def jetpack_release(files: SystemFiles) -> str | None:
    """The release of JetPack: of its package, else what the release of L4T belongs to."""
    package = False
    for line in files.lines(_PACKAGES, _PACKAGES_MOST):
        if line.startswith("Package: "):
            package = line == "Package: nvidia-jetpack"
        elif package and (found := re.match(r"Version: (\d[\d.]{0,20})", line)):
            return found[1]
    release = tuple(int(part) for part in (l4t_release(files) or "0").split("."))
    for first, name in _JETPACKS:
        # A generation that is not listed is not guessed.
        if release[0] == first[0] and release >= first:
            return name
    return None


def power_modes(files: SystemFiles) -> PowerModes:
    """The power modes that nvpmodel has, and the one it has set."""
    text = files.text(_CONFIG) or ""
    # "< POWER_MODEL ID=2 NAME=MAXN_SUPER >"; other lines are comments, or limits of a mode.
    modes = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\w{1,60})", text, re.MULTILINE)
    names = {int(number): name for number, name in modes}
    current = re.search(r"pmode:(\d{1,4})", files.line(_STATUS) or "")
    return PowerModes(names.get(int(current[1])) if current else None, names)


def gpu_clock_fixed(files: SystemFiles) -> bool | None:
    """Whether the embedded GPU's lowest and highest allowed clock coincide, in all its parts."""
    found = []
    for folder in files.names("sys/class/devfreq/*"):
        # 17000000.gpu (Orin), 17000000.ga10b, 17000000.gv11b (Xavier), gpu-gpc-0 (Thor)
        if re.search(r"gpu|ga10b|gv11b|gp10b|gm20b", folder.rpartition("/")[2]):
            lowest, highest = (files.number(f"{folder}/{end}_freq") for end in ("min", "max"))
            if lowest is not None and highest is not None:
                found.append(lowest == highest)
    return all(found) if found else None


def fan(files: SystemFiles) -> Fan | None:
    """The first fan that hwmon knows, and its speed where another of its devices counts that."""
    drives, speeds = [], []
    for folder in files.names("sys/class/hwmon/hwmon*"):
        drives.append(files.number(f"{folder}/pwm1"))
        speeds += [files.number(f"{folder}/{name}") for name in ("fan1_input", "rpm")]
    drives.append(files.number("sys/devices/pwm-fan/cur_pwm"))  # JetPack 4
    drive = next((value / 255 for value in drives if value is not None and value <= 255), None)
    rpm = next((value for value in speeds if value is not None), None)
    return None if drive is None and rpm is None else Fan(drive, rpm)
