"""What an output may replace: what waveedge wrote, and nothing of the user's.

The command line runs in this process. Every refusal comes before any work, in one message, and
leaves every file, folder, link and FIFO as it was.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from waveedge import cli
from waveedge.errors import OutputError
from waveedge.outputs import (
    ARTIFACT,
    BUNDLE,
    CHECKPOINT,
    COST_PROFILE,
    PICTURE,
    Kind,
    check_output,
    default_name,
    new_file,
    new_folder,
)

Make = Callable[[Path], None]
S = ("--input-size", "32x32")
COMPRESS = ("compress", "model.pt", *S, "--out")
EXPORT = ("export", "model.pt", *S, "--out")
BENCH = ("bench", "b.ort", "--plot")
FIT = ("fit-cost", "--out")

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a checkpoint and a bundle."""
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "b.ort")
    return tmp_path


def make_bundle(path: Path, **extra: str) -> Path:
    """Write a folder that looks like a bundle from outside."""
    path.mkdir()
    files = {"model.onnx": "0" * 64, "verification.json": "0" * 64}
    for name in files:
        (path / name).write_text("{}")
    (path / "manifest.json").write_text(json.dumps({"format": "waveedge-bundle/1", "files": files}))
    for name, text in extra.items():
        (path / name).write_text(text)
    return path


def make_artifact(path: Path) -> Path:
    save_file({"a": torch.zeros(1)}, path, metadata={"waveedge.artifact": "{}"})
    return path


def said(line: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Run a command line; return its exit status and what it said."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in line])
    captured = capsys.readouterr()
    return end.value.code, captured.err


def snapshot(folder: Path) -> dict[str, object]:
    """Everything in a folder: what it is, and what is in it."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else None
        found[str(path)] = (mode, os.readlink(path) if path.is_symlink() else content)
    return found


def foreign_folder(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results" / "thesis.txt").write_text("ten years")


def sub_folder(folder: Path) -> None:
    (folder / "b.ort" / "sub").mkdir()
    (folder / "b.ort" / "sub" / "model.onnx").write_text("mine")


def text_file(folder: Path) -> None:
    (folder / "thesis.tex").write_text("ten years")


def recipe(folder: Path) -> None:
    (folder / "r.yaml").write_text("bits: 8\n")


def prices(folder: Path) -> None:
    (folder / "c.yaml").write_text("name: a\nelement: 1\nshuffle: 1\nnode: 1\n")


def images(folder: Path) -> None:
    (folder / "imgs").mkdir()
    (folder / "imgs" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def links(folder: Path) -> None:
    text_file(folder)
    foreign_folder(folder)
    (folder / "to_file").symlink_to("thesis.tex")
    (folder / "to_folder").symlink_to("results")
    (folder / "to_bundle").symlink_to("b.ort")
    (folder / "to_nowhere").symlink_to("nowhere")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def other_manifest(folder: Path) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "manifest.json").write_text('{"name": "a web page", "files": {}}')


def code(folder: Path) -> None:
    (folder / "net.py").write_text("def make(): ...")
    (folder / "nets").mkdir()
    (folder / "nets" / "small.py").write_text("def make(): ...")


def nothing(_folder: Path) -> None:
    pass


NEVER = [
    ("a folder of the user's", foreign_folder, (*EXPORT, "results"), "holds thesis.txt"),
    ("a bundle with a file more", sub_folder, (*EXPORT, "b.ort"), "holds sub/model.onnx"),
    ("another program's folder", other_manifest, (*EXPORT, "site"), "holds manifest.json"),
    ("the checkpoint as bundle", nothing, (*EXPORT, "model.pt"), "is an input"),
    ("the checkpoint as artifact", nothing, (*COMPRESS, "model.pt"), "is an input"),
    ("the code as artifact", code, (*COMPRESS, "net.py", "--arch", "net:make"), "is an input"),
    ("the code as bundle", code, (*EXPORT, "net.py", "--arch", "net:make"), "is an input"),
    ("a package as bundle", code, (*EXPORT, "nets", "--arch", "nets.small:make"), "is an input"),
    ("the folder of the checkpoint", nothing, (*EXPORT, "../{here}"), "is an input"),
    ("the recipe", recipe, (*COMPRESS, "r.yaml", "--recipe", "r.yaml"), "is an input"),
    ("the cost profile as artifact", prices, (*COMPRESS, "c.yaml", "--cost", "c.yaml"), "an input"),
    ("the cost profile as bundle", prices, (*EXPORT, "c.yaml", "--cost", "c.yaml"), "is an input"),
    ("an image", images, (*COMPRESS, "imgs/0.png", "--calib", "imgs"), "in an input"),
    ("the image folder", images, (*EXPORT, "imgs", "--calib", "imgs"), "is an input"),
    ("the folder around the images", images, (*EXPORT, "imgs", "--calib", "imgs/0.png"), "input"),
    ("the model measured", nothing, (*BENCH, "b.ort/model.onnx"), "in an input"),
    ("the bundle measured", nothing, (*BENCH, "b.ort"), "is an input"),
    ("what is compared with", nothing, (*BENCH, "model.pt", "--vs", "model.pt"), "is an input"),
    ("a link to a file, compress", links, (*COMPRESS, "to_file"), "is a link"),
    ("a link to a file, bench", links, (*BENCH, "to_file"), "is a link"),
    ("a link to a folder", links, (*EXPORT, "to_folder"), "is a link"),
    ("a link to a bundle", links, (*EXPORT, "to_bundle"), "is a link"),
    ("a link to nowhere", links, (*EXPORT, "to_nowhere"), "is a link"),
    ("a link to a file, fit-cost", links, (*FIT, "to_file"), "is a link"),
    ("a FIFO, fit-cost", fifo, (*FIT, "pipe"), "no regular file"),
    ("no name, fit-cost", nothing, (*FIT, ""), "is empty"),
    ("a FIFO, compress", fifo, (*COMPRESS, "pipe"), "no regular file"),
    ("a FIFO, export", fifo, (*EXPORT, "pipe"), "no regular file"),
    ("a FIFO, bench", fifo, (*BENCH, "pipe"), "no regular file"),
    ("a picture as folder", foreign_folder, (*BENCH, "results"), "is a folder"),
    ("no name, compress", nothing, (*COMPRESS, ""), "is empty"),
    ("no name, export", nothing, (*EXPORT, ""), "is empty"),
    ("no name, bench", nothing, (*BENCH, ""), "is empty"),
    ("this folder", nothing, (*EXPORT, "."), "names no file"),
    ("the folder above", nothing, (*EXPORT, ".."), "names no file"),
    ("this folder as picture", nothing, (*BENCH, "."), "names no file"),
    ("a name too long, compress", nothing, (*COMPRESS, "x" * 300), "too long"),
    ("a name too long, export", nothing, (*EXPORT, "x" * 300), "too long"),
    ("a name too long, bench", nothing, (*BENCH, "x" * 300), "too long"),
    ("no such folder, compress", nothing, (*COMPRESS, "no/such/x"), "does not exist"),
    ("no such folder, export", nothing, (*EXPORT, "no/such/x"), "does not exist"),
    ("no such folder, bench", nothing, (*BENCH, "no/such/x"), "does not exist"),
    ("a file as folder", nothing, (*EXPORT, "model.pt/x"), "not a folder"),
]
WITHOUT_OVERWRITE = [
    ("a text as bundle", text_file, (*EXPORT, "thesis.tex"), "is not a bundle"),
    ("a text as cost profile", text_file, (*FIT, "thesis.tex"), "is not a cost profile"),
    ("a text as artifact", text_file, (*COMPRESS, "thesis.tex"), "is not an artifact"),
    ("a text as picture", text_file, (*BENCH, "thesis.tex"), "is not a picture"),
    ("a checkpoint as picture", nothing, (*BENCH, "model.pt"), "is not a picture"),
]


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["", "--overwrite"])
@pytest.mark.parametrize(
    ("make", "line", "says"), [pytest.param(*row[1:], id=row[0]) for row in NEVER]
)
def test_what_is_never_replaced(
    make: Make,
    line: Sequence[str],
    says: str,
    overwrite: Sequence[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(folder)
    line = [word.replace("{here}", folder.name) for word in (*line, *overwrite)]
    before = snapshot(folder)
    code, errors = said(line, capsys)
    assert code == (2 if "" in line else 1)
    assert snapshot(folder) == before
    assert says in errors
    message, hint, *rest = errors.splitlines()
    assert message.startswith("error: ")
    assert "unexpected" not in message
    assert hint.endswith(".")
    assert not rest, "said at once, before a word about work"


@pytest.mark.parametrize(
    ("make", "line", "says"), [pytest.param(*row[1:], id=row[0]) for row in WITHOUT_OVERWRITE]
)
def test_what_is_replaced_with_overwrite_alone(
    make: Make,
    line: Sequence[str],
    says: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(folder)
    before = snapshot(folder)
    code, errors = said(line, capsys)
    assert code == 1
    assert snapshot(folder) == before
    assert says in errors
    assert "--overwrite" in errors.splitlines()[-1]
    kinds = {"compress": ARTIFACT, "export": BUNDLE, "bench": PICTURE, "fit-cost": COST_PROFILE}
    kind = kinds[line[0]]
    check_output(Path(line[-1]), kind, overwrite=True)  # raises nothing


def test_the_verbs_take_any_name_and_replace_with_overwrite(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"-\xff\n:car:[red]$x$")
    (folder / "model.pt").rename(folder / f"{name}.pt")
    for ending in ("", ".st", ".png"):
        (folder / f"{name}{ending}").write_text("ten years")
    for line in (
        ("compress", *S, f"--out={name}.st", "--", f"{name}.pt"),
        ("export", *S, f"--out={name}", "--", f"{name}.pt"),
        ("bench", "--vs", f"{name}/model.onnx", "--runs", "3", f"--plot={name}.png", "--", name),
    ):
        code, errors = said((line[0], "--overwrite", *line[1:]), capsys)
        assert code == 0, errors
    check_output(Path(f"{name}.st"), ARTIFACT)
    check_output(Path(name), BUNDLE)
    check_output(Path(f"{name}.png"), PICTURE)
    assert len(list(folder.iterdir())) == 5


def test_what_waveedge_wrote_is_replaced(folder: Path) -> None:
    make_artifact(folder / "a.safetensors")
    with new_file(folder / "a.safetensors", ARTIFACT) as path:
        path.write_text("new")
    assert (folder / "a.safetensors").read_text() == "new"
    (folder / "b.ort" / "model.engine").touch()  # what build_engine.sh adds on the device
    with new_folder(folder / "b.ort", BUNDLE) as path:
        (path / "file").write_text("new")
    assert [file.name for file in (folder / "b.ort").iterdir()] == ["file"]
    (folder / "empty").mkdir()
    check_output(folder / "empty", BUNDLE)
    # A cut artifact still says what it was; an input folder may hold an artifact of ours.
    make_artifact(folder / "a.safetensors")
    check_output(folder / "a.safetensors", ARTIFACT, inputs=[folder])


@pytest.mark.parametrize("kind", [ARTIFACT, CHECKPOINT, PICTURE])
def test_one_kind_does_not_replace_another(folder: Path, kind: Kind) -> None:
    files = {
        ARTIFACT: {"waveedge.artifact": "{}"},
        CHECKPOINT: {"waveedge.spec": "{}"},
        PICTURE: None,
    }
    for other, metadata in files.items():
        save_file({"a": torch.zeros(1)}, folder / "file", metadata=metadata)
        if other is kind and metadata:
            check_output(folder / "file", kind)
        else:
            with pytest.raises(OutputError, match="exists"):
                check_output(folder / "file", kind)


def test_what_came_during_the_work_is_not_lost(folder: Path) -> None:
    def write_folder() -> None:
        with new_folder(Path("b.ort"), BUNDLE):
            (folder / "b.ort" / "notes.txt").write_text("mine")

    def write_file() -> None:
        with new_file(Path("a"), ARTIFACT) as path:
            path.write_text("new")
            (folder / "a").write_text("mine")

    with pytest.raises(OutputError, match=r"holds notes\.txt"):
        write_folder()
    with pytest.raises(OutputError, match="exists"):
        write_file()
    assert (folder / "a").read_text() == "mine"
    assert (folder / "b.ort" / "notes.txt").read_text() == "mine"


def test_a_folder_of_a_killed_export_s_name_is_untouched(folder: Path) -> None:
    for name in (".b.ort.old", ".b.ort.part"):
        (folder / name).mkdir()
        (folder / name / "thesis.txt").write_text("ten years")
    with new_folder(Path("b.ort"), BUNDLE) as path:
        (path / "file").touch()
    assert len(list(folder.rglob("thesis.txt"))) == 2


def test_an_artifact_may_be_written_beside_the_images(folder: Path) -> None:
    make_artifact(folder / "a.safetensors")
    check_output(Path("a.safetensors"), ARTIFACT, inputs=[Path(), None, Path("nowhere")])
    check_output(Path("b.safetensors"), ARTIFACT, inputs=[Path()])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("model.pt", "model.ort"),
        ("a.v1.pt", "a.v1.ort"),
        ("a.v2", "a.v2.ort"),
        ("run/best.pth.tar", "best.ort"),
        ("m.w8a8.safetensors", "m.w8a8.ort"),
        ("-m.pt", "-m.ort"),
        ("z:car:[red]$.pt", "z:car:[red]$.ort"),
    ],
)
def test_dots_in_a_name_are_part_of_it(source: str, name: str) -> None:
    assert default_name(Path(source), "ort") == name


def test_a_default_name_that_is_too_long_is_cut_and_stays_apart() -> None:
    names = {default_name(Path(f"{'ü' * 125}{last}.pt"), "w8a8.safetensors") for last in "ab"}
    assert len(names) == 2
    for name in names:
        assert len(os.fsencode(name)) <= 255
        assert name.startswith("ü" * 100)
        assert name.endswith(".w8a8.safetensors")
