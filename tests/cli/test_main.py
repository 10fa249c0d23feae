"""The command line as a whole: its commands, bad input to any of them, exit statuses, real processes."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nacre
from command_line import Capture, output, refusal, run
from nacre.cli import main as cli
from nacre.cli.main import COMMANDS
from nacre.report import reproduce
from nacre.runs import trainer


def test_version_is_the_packages(capsys: Capture) -> None:
    assert output(capsys, "--version") == f"nacre {importlib.metadata.version('nacre')}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_without_a_command_every_command_is_listed(arguments: list[str], capsys: Capture) -> None:
    shown = output(capsys, *arguments)
    assert all(f"nacre {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_arguments(name: str, capsys: Capture) -> None:
    shown = output(capsys, name, "--help")
    assert f"usage: nacre {name}" in shown
    assert shown.count("--") > 1


@pytest.mark.parametrize(("name", "nearest"), [("trian", "train"), ("eval", "evaluate"), ("adpt", "adapt")])
def test_an_unknown_command_is_answered_with_the_nearest(name: str, nearest: str, capsys: Capture) -> None:
    assert refusal(capsys, name, "x") == f"unknown command '{name}'; did you mean '{nearest}'?"


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["list", "--jsn"], "--json"),
        (["evaluate", "x", "--episode", "2"], "--episodes"),
        (["resume", "x", "--iteration=3"], "--iterations"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(arguments: list[str], nearest: str, capsys: Capture) -> None:
    assert f"did you mean '{nearest}'?" in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "pearl", "extra"],
        ["resume"],
        ["evaluate"],
        ["adapt"],
        ["benchmark"],
        ["benchmark", "everything"],
        ["report"],
    ],
    ids=" ".join,
)
def test_arguments_that_are_missing_or_too_many_are_refused(arguments: list[str], capsys: Capture) -> None:
    assert f"nacre {arguments[0]} --help" in refusal(capsys, *arguments)


@pytest.mark.parametrize("command", [["resume"], ["evaluate"], ["adapt", "--task", "goal=0,0"]], ids=lambda c: c[0])
def test_a_run_that_is_not_there_or_is_none_is_refused_and_not_made(
    command: list[str], capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        assert str(tmp_path / place) in refusal(capsys, command[0], str(tmp_path / place), *command[1:])
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("file", ["config.json", "tasks.json"])
@pytest.mark.parametrize(
    "command", [["resume"], ["evaluate", "--json"], ["adapt", "--task", "goal=0,0"]], ids=lambda c: c[0]
)
def test_a_damaged_run_is_refused_by_every_command_and_left_as_it_is(
    command: list[str], file: str, point_run: str, capsys: Capture, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(point_run, tmp_path / "damaged"))
    (damaged / file).write_text((damaged / file).read_text()[:100])
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    assert str(damaged) in refusal(capsys, command[0], str(damaged), *command[1:])
    assert {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()} == before


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nacre", *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_process_that_is_asked_for_json_prints_nothing_else_on_stdout(point_run: str) -> None:
    done = process("evaluate", point_run, "--json")
    assert done.returncode == 0
    assert np.shape(json.loads(done.stdout)["returns"]) == (1, 3, 3)
    assert done.stdout.count("\n") == 1


def test_a_process_that_meets_nothing_but_damaged_checkpoints_exits_with_status_2_and_one_line(
    point_run: str, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(point_run, tmp_path / "damaged"))
    for checkpoint in (damaged / "checkpoints").iterdir():
        files = [file for file in (checkpoint / "state").rglob("*") if file.is_file()]
        max(files, key=lambda file: file.stat().st_size).unlink()
    done = process("resume", str(damaged))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("nacre: the run at") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "stopped at once"),
        (MemoryError(), 2, "not enough memory"),
        (nacre.NacreError("a name with \x1b[31m\n in it is refused."), 2, r"a name with \x1b[31m\n in it"),
        (SystemExit(0), 2, "sys.exit(0)"),
        (SystemExit(3), 2, "sys.exit(3)"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_ends_a_command_is_told_in_a_line_and_by_the_exit_status(
    raised: BaseException, status: int, told: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(args: list[str], started: float) -> None:
        raise raised

    monkeypatch.setattr("nacre.cli.list.run", ending)
    assert run("list") == status
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("nacre: ") and error.count("\n") == 1
    assert told in error


@pytest.mark.parametrize(
    ("stopped_by", "status"), [("Ctrl-C", 130), ("SIGTERM", 143), ("the time limit", 0), (None, 0)]
)
def test_the_exit_status_tells_which_signal_stopped_a_run(
    stopped_by: str | None, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for function in ("train", "resume"):
        monkeypatch.setattr(trainer, function, lambda *runs, **options: trainer.Trained([], stopped_by))
    monkeypatch.setattr(reproduce, "run", lambda *arguments: stopped_by)
    assert run("train", "pearl", "point-robot", "--preset", "smoke", "--out", str(tmp_path / "run")) == status
    assert run("resume", str(tmp_path / "run")) == status
    assert run("reproduce", "encoder", "--out", str(tmp_path)) == status


@pytest.mark.parametrize("raised", [BrokenPipeError(), RuntimeError("out of memory is a word in it")], ids=repr)
def test_an_error_that_is_a_fault_keeps_its_traceback(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def ending(args: list[str], started: float) -> None:
        raise raised  # a broken pipe of an environment, say: stdout is read

    monkeypatch.setattr("nacre.cli.list.run", ending)
    with pytest.raises(type(raised)):
        run("list")


@pytest.mark.parametrize("arguments", [["list", "pearl"], ["--help"], ["train", "--help"], ["reproduce"]], ids=" ".join)
def test_a_process_whose_output_nobody_reads_ends_quietly(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "nacre", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (1, "")


def test_a_plugin_that_ends_the_program_is_refused(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_that_exits.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert "SystemExit" in refusal(capsys, "--plugin", "plugin_that_exits", "list")


LONG = "9" * 30


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "pearl", "point-robot", "--num-hidden-layers", LONG],
        ["train", "pearl", "point-robot", "--hidden-dim", LONG],
        ["train", "pearl", "point-robot", "--latent-dim", LONG],
        ["train", "pearl", "point-robot", "--iterations", LONG],
        ["train", "pearl", "point-robot", "--batch-size", LONG],
        ["train", "pearl", "point-robot", "--num-train-tasks", LONG],
        ["train", "rl2", "point-robot", "--tasks-per-iteration", LONG],
        ["train", "promp", "point-robot", "--num-inner-steps", LONG],
        ["train", "pearl", "point-robot", "--seeds", LONG],
        ["train", "x" * 100_000, "point-robot"],
        ["train", "pearl", "x\n\x1b[31m" * 1000],
        ["train", "pearl", "point-robot", "--x" + "y" * 100_000],
        ["train", "pearl", "point-robot", "--preset", "z" * 100_000],
        ["train", "pearl", "point-robot", "--precision", "z" * 100_000],
        ["benchmark", "collect", "--lanes", LONG],
        ["benchmark", "update", "--seeds", LONG],
        ["list", "x" * 100_000],
        ["x" * 100_000],
        ["--plugin", "x" * 100_000, "list"],
    ],
    ids=lambda arguments: " ".join(arguments)[:50].encode("unicode_escape").decode(),
)
def test_numbers_and_names_that_are_too_long_are_refused_in_a_short_line(
    arguments: list[str], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refusal(capsys, *arguments)
    assert told.isprintable()
    assert len(told) < 1000
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_is_the_same_program() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="nacre")
    assert script.load() is cli.main
