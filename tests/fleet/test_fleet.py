"""``waveedge bench --on``: real ssh servers on loopback as boards."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waveedge.fleet import Board, measure
from waveedge.fleet.ssh import Ssh

Fleet = dict[str, Any]
QUICK = ("--runs", "3")
ALONE = (*QUICK, "--alone")
"""For tests of how it travels, not of what is measured: half of the time."""


def fleet_file(folder: Path, *boards: dict[str, str]) -> Path:
    file = folder / "fleet.yaml"
    file.write_text(json.dumps({"boards": boards}))  # JSON is YAML
    return file


def test_two_boards_are_measured_at_once_and_nothing_stays(
    fleet: Fleet,
    pythons: dict[str, str],
    bundle: Path,
    command_line: Callable[..., Any],
    tmp_path: Path,
) -> None:
    boards = [
        {"host": host, "name": name, "python": pythons[host]}
        for host, name in (("board-a", "orin"), ("board-b", "nano"))
    ]
    file = fleet_file(tmp_path, *boards)
    before = [host.logins() for host in fleet.values()]
    status, out, err = command_line("bench", bundle, "--hosts", file, *QUICK, "--json")
    assert status == 0, err
    # All that a command does on a board goes over one connection.
    assert [host.logins() for host in fleet.values()] == [count + 1 for count in before]
    found = json.loads(out)["boards"]
    assert [board["name"] for board in found] == ["orin", "nano"]
    for board in found:
        assert board["error"] is None
        assert board["report"]["runs"] == 3
        assert board["report"]["a"]["bits"]["executed"] == "w8a8"
        assert board["report"]["wall_ratio"]["low"] > 0
        assert board["doctor"]["python"]["venv"] is True
        assert board["engines"] is None
        assert {target["target"] for target in board["doctor"]["targets"]} >= {"ort", "trt"}
    assert (tmp_path / "bench.png").read_bytes()[:4] == b"\x89PNG"
    assert [host.left() for host in fleet.values()] == [[], []]

    status, out, err = command_line("bench", bundle, "--hosts", file, *QUICK)
    assert status == 0, err
    rows = [line for line in out.splitlines() if line.strip().startswith(("orin: ", "nano: "))]
    assert len(rows) == 2
    assert "on a random image" in out
    assert all("onnxruntime (CPU)" in row and " ms" in row and "x [" in row for row in rows)


def test_a_board_that_fails_is_named_in_a_line_and_holds_back_no_other(
    fleet: Fleet, bundle: Path, command_line: Callable[..., Any], tmp_path: Path
) -> None:
    hosts = ("board-a", "stranger", "locked", "nobody", "no-such-host.invalid")
    file = fleet_file(
        tmp_path,
        *({"host": host, "python": sys.executable} for host in hosts),
        {"host": "board-b", "python": "/usr/bin/no-python"},
    )
    status, out, err = command_line("bench", bundle, "--hosts", file, *QUICK, "--json")
    assert status == 1
    found = {board["host"]: board for board in json.loads(out)["boards"]}
    assert found["board-a"]["report"]["runs"] == 3
    whats = {host: board["error"]["what"] for host, board in found.items() if board["error"]}
    assert whats == {
        "stranger": "stranger: its host key is not the known one, or not known",
        "locked": "locked: it lets nobody in with your keys",
        "nobody": "nobody: nobody answers there",
        "no-such-host.invalid": "no-such-host.invalid: its name is not known",
        "board-b": "board-b: there is no /usr/bin/no-python",
    }
    assert all(board["error"]["hint"] for board in found.values() if board["error"])
    assert [line.removeprefix("error: ") for line in err.splitlines() if "error: " in line] == [
        whats[host] for host in found if host in whats
    ]


def test_a_board_behind_another_is_reached_by_the_user_s_own_configuration(fleet: Fleet) -> None:
    before = [host.logins() for host in fleet.values()]
    with Ssh("behind") as ssh:
        assert ssh.ask('echo "$HOME"', "say where it is").strip() == str(fleet["board-b"].home)
    assert [host.logins() for host in fleet.values()] == [count + 1 for count in before]


def test_what_a_board_refuses_comes_home_as_its_own_words(
    fleet: Fleet, bundle: Path, command_line: Callable[..., Any], tmp_path: Path
) -> None:
    file = fleet_file(tmp_path, {"host": "board-a", "python": sys.executable})
    status, _, err = command_line("bench", bundle, "--hosts", file, "--threads", "9999")
    assert status == 1
    assert "error: board-a: threads is 9999; this machine has" in err
    assert "Traceback" not in err
    assert fleet["board-a"].left() == []


def test_a_bundle_of_engines_is_built_there_first(fleet: Fleet, engines: Path) -> None:
    """Here that fails, as there is no GPU; the message is the board's."""
    (outcome,) = measure([Board("board-a", python=sys.executable)], engines, QUICK)
    assert outcome.error is not None
    assert outcome.error.what == "board-a: there is no TensorRT with a GPU here"
    assert "JetPack" in outcome.error.hint
    assert fleet["board-a"].left() == []


def test_a_kept_bundle_is_copied_once_and_mended(fleet: Fleet, bundle: Path) -> None:
    boards = [Board("board-b", python=sys.executable)]
    said: list[str] = []

    def once() -> None:
        said.clear()
        (outcome,) = measure(
            boards, bundle, ALONE, keep=True, say=lambda _, state: said.append(state)
        )
        assert outcome.error is None, outcome.error

    once()
    assert any(state.startswith("copying") for state in said)
    kept = [path for path in fleet["board-b"].left() if path.endswith("model.onnx")]
    assert len(kept) == 1
    once()
    assert not any(state.startswith("copying") for state in said)
    file = fleet["board-b"].home / kept[0]
    file.write_bytes(file.read_bytes()[:-1])
    once()
    assert any(state.startswith("copying") for state in said)
    assert file.read_bytes() == (bundle / "model.onnx").read_bytes()
    assert not any("job-" in path for path in fleet["board-b"].left())
    fleet["board-b"].clear()


def test_a_cut_line_is_taken_up_again(
    fleet: Fleet, bundle: Path, python: Callable[[str], str]
) -> None:
    host, said = fleet["board-a"], list[str]()

    def say(_: str, state: str) -> None:
        said.append(state)
        if state == "measuring" and said.count(state) == 1:
            host.cut()

    slow = python('case "$*" in *bench*) sleep 3;; esac')
    (outcome,) = measure([Board("board-a", python=slow)], bundle, ALONE, say=say)
    assert outcome.error is None, outcome.error
    assert outcome.report is not None
    assert said.count("starting") == 1
    assert host.left() == []


def test_an_interrupted_measurement_runs_on_and_its_result_is_fetched(
    fleet: Fleet, bundle: Path, tmp_path: Path, python: Callable[[str], str]
) -> None:
    host = fleet["board-b"]
    wait = f"echo x >> {tmp_path}/started; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"
    slow = python(f'case "$*" in *bench*) {wait};; esac')
    file = fleet_file(tmp_path, {"host": "board-b", "python": slow})
    line = [sys.executable, "-m", "waveedge", "bench", str(bundle), "--hosts", str(file), *ALONE]
    # A shell lets what it runs in the background ignore Ctrl-C, and so do all their children.
    first = subprocess.Popen(
        line,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "started").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "Traceback" not in err
    assert any("job-" in path for path in host.left())
    (tmp_path / "go").touch()
    second = subprocess.run(
        [*line, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["boards"][0]["report"]["runs"] == 3
    assert (tmp_path / "started").read_text() == "x\n"  # it ran once
    assert host.left() == []


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "two words", "line\nbreak"])
def test_what_is_no_host_is_refused_before_ssh_sees_it(host: str) -> None:
    with pytest.raises(Exception, match="is no host"):
        Ssh(host)


def test_a_damaged_bundle_goes_nowhere(
    fleet: Fleet, bundle: Path, tmp_path: Path, command_line: Callable[..., Any]
) -> None:
    broken = tmp_path / "broken.ort"
    shutil.copytree(bundle, broken)
    (broken / "model.onnx").write_bytes(b"x")
    status, _, err = command_line("bench", broken, "--on", "board-a")
    assert status == 1
    assert "is not the file that was exported" in err
    assert fleet["board-a"].left() == []
