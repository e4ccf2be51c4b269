"""Atomic replacement: killed before any of its steps, the old or the new one is there, whole."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from waveedge import files, workplace
from waveedge.errors import OutputError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")

STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.listdir")


def write_file(path: Path, text: str) -> None:
    with files.atomic_file(path) as temporary:
        temporary.write_text(text)


def write_folder(path: Path, text: str) -> None:
    with files.atomic_directory(path) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(text)


def content(path: Path) -> list[str]:
    return [file.read_text() for file in sorted(path.iterdir() if path.is_dir() else [path])]


def kill_before_step(step: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a process that kills itself before its step number ``step``.

    Returns:
        Whether it got that far.
    """
    child = os.fork()
    if child == 0:
        left = step

        def watch(event: str, _arguments: object) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)  # cannot be removed again: hence a process of its own
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def no_exchange(_one: Path, _other: Path) -> bool:
    """Stands for a system that cannot exchange names."""
    return False


@pytest.mark.parametrize("there", ["nothing", "the old one"])
@pytest.mark.parametrize(
    ("write", "exchanges", "texts"),
    [(write_file, True, 1), (write_folder, True, 2), (write_folder, False, 2)],
    ids=["file", "folder", "folder without exchange"],
)
def test_killed_before_any_step(
    write: Callable[[Path, str], None],
    exchanges: bool,
    texts: int,
    there: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "exchange", no_exchange)
    absent = 0
    seen = set()
    for step in range(1000):
        home = tmp_path / str(step)
        home.mkdir()
        path = home / "b.ort"
        if there == "the old one":
            write(path, "old")
        if not kill_before_step(step, lambda path=path: write(path, "new")):
            break
        if path.exists():
            assert content(path) in (["old"] * texts, ["new"] * texts), step
            seen.add(content(path)[0])
        else:
            absent += 1
        # What is left behind is hidden, and the next run clears it. It puts the old one back.
        assert {entry.name for entry in home.glob("[!.]*")} <= {"b.ort"}
        if there == "the old one":
            files.probe(path)
            assert content(path) in (["old"] * texts, ["new"] * texts), step
        write(path, "newer")
        assert content(path) == ["newer"] * texts
        assert list(home.iterdir()) == [path], step
    assert content(path) == ["new"] * texts
    assert "new" in seen, "killed after the new one got its name, too"
    if there == "the old one":
        assert "old" in seen
        assert absent == (not exchanges), "the moment between two renames"


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_failing_swap_leaves_the_old_folder(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.ort"
    write_folder(path, "old")
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    def full_exchange(_one: Path, _other: Path) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "exchange", full_exchange if exchanges else no_exchange)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OutputError, match="no space left"):
        write_folder(path, "new")
    assert content(path) == ["old", "old"]
    assert list(tmp_path.iterdir()) == [path]


def test_folders_of_the_user_are_not_taken_for_leftovers(tmp_path: Path) -> None:
    for name in (".b.ort.old", ".b.ort.x.part", ".waveedge-1a2b3c4d.part", ".waveedge-notes.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("ten years")
    other = tmp_path / ".waveedge-00000000.part"
    other.mkdir()
    (other / "waveedge.lock").symlink_to(tmp_path / ".b.ort.old" / "thesis.txt")
    for text in ("one", "two"):
        write_folder(tmp_path / "b.ort", text)
    assert sorted(path.name for path in tmp_path.rglob("*")).count("thesis.txt") == 4
    assert (other / "waveedge.lock").is_symlink()


def test_a_run_at_work_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    with files.atomic_directory(tmp_path / "a") as one:
        (one / "file").write_text("one")
        with files.atomic_directory(tmp_path / "b") as other:
            (other / "file").write_text("other")
        assert (one / "file").read_text() == "one"
    assert content(tmp_path / "a") == ["one"]
    assert content(tmp_path / "b") == ["other"]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_moved_aside_never_replaces_what_came_since(tmp_path: Path) -> None:
    place = tmp_path / ".waveedge-1a2b3c4d.part"
    for folder in (place / "new", place / "old" / "b.ort", tmp_path / "b.ort"):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.parent.name)
    (place / "waveedge.lock").touch()
    files.probe(tmp_path / "b.ort")
    assert (tmp_path / "b.ort" / "file").read_text() == tmp_path.name
    assert (place / "old" / "b.ort" / "file").read_text() == "old"


@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged on Linux")
def test_names_are_exchanged_in_one_step(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "a")
    write_file(tmp_path / "b", "b")
    if not workplace.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange names")
    assert content(tmp_path / "b") == ["a", "a"]
    assert content(tmp_path / "a") == ["b"]


def test_new_files_have_the_rights_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_file(tmp_path / "file", "")
    write_folder(tmp_path / "folder", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "sub").mkdir()
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "sub").stat().st_mode
