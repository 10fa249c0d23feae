"""A folder of runs in place of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

import nacre
from command_line import Capture, refusal
from nacre.runs.below import runs_below


def make_run(path: Path) -> Path:
    """What is looked for: the two files of a run."""
    path.mkdir(parents=True)
    for file in ("config.json", "tasks.json"):
        (path / file).write_text("{}")
    return path


def test_runs_are_found_in_order_and_not_inside_of_runs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("b/seed-0", "a/pearl/seed-1", "a/pearl/seed-0")]
    make_run(tmp_path / "b" / "seed-0" / "checkpoints" / "10")
    make_run(tmp_path / ".hidden" / "run")
    (tmp_path / "c").mkdir()
    assert runs_below(tmp_path) == sorted(runs)


@pytest.mark.parametrize(
    "command",
    [["resume"], ["evaluate"], ["adapt", "--task", "goal=0,0"], ["report", "-o", "x.png"]],
    ids=lambda c: c[0],
)
def test_a_command_on_a_folder_of_runs_names_the_runs(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    for seed in range(2):
        make_run(tmp_path / "pearl" / f"seed-{seed}")
    told = refusal(capsys, command[0], str(tmp_path), *command[1:])
    assert told == f"{tmp_path} is no run, but holds 2: {tmp_path}/pearl/seed-0, {tmp_path}/pearl/seed-1; name one."


def test_python_names_the_runs_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(nacre.NacreError, match=f"holds one; name it: {run}"):
        nacre.load(tmp_path)
    for index in range(20):
        make_run(tmp_path / f"seed-{index:02}")
    with pytest.raises(nacre.NacreError, match=r"holds 21: .*seed-08 and 11 more; name one"):
        nacre.load(tmp_path)
