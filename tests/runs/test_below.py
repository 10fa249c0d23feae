"""A folder of runs in place of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nacre
from command_line import Capture, refusal
from nacre.runs import below
from nacre.runs.below import runs_below, runs_in


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
    assert runs_below(tmp_path) == (sorted(runs), [])


def test_runs_of_nacre_reproduce_half_runs_and_linked_runs_are_found(tmp_path: Path) -> None:
    deep = make_run(tmp_path / "runs/reproduce/figure/short/family/line/seed-0")
    half = tmp_path / "runs" / "half"
    half.mkdir()
    (half / "config.json").write_text("{}")
    elsewhere = make_run(tmp_path / "disk" / "seed-0")
    (tmp_path / "runs" / "linked").symlink_to(elsewhere)
    (tmp_path / "runs" / "again").symlink_to(deep)  # is there by its own name
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "notes.txt").write_text("")
    (tmp_path / "runs" / "file").symlink_to(tmp_path / "runs" / "notes.txt")
    found = [half, tmp_path / "runs" / "linked", deep]
    assert runs_below(tmp_path / "runs") == (found, [])
    assert runs_in([half, tmp_path / "runs"]) == (found, [])


def test_where_the_search_did_not_look_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "z" / "seed-0")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    runs, notices = runs_below(tmp_path)
    assert runs == [run] and [note.split(" (")[0] for note in notices] == [
        f"{tmp_path / 'itself'} was not searched for runs"
    ]
    (tmp_path / "itself").unlink()
    (tmp_path / "gone").unlink()
    for index in range(3):
        (tmp_path / f"a-{index}" / "b").mkdir(parents=True)
    monkeypatch.setattr(below, "MAX_FOLDERS", 6)
    make_run(tmp_path / "z" / "deep" / "er")
    runs, notices = runs_below(tmp_path)
    assert runs == [] and len(notices) == 1 and "ended after 6 folders" in notices[0]
    with pytest.raises(nacre.NacreError, match=r"nor below it .*ended after 6 folders"):
        runs_in([tmp_path])
    monkeypatch.setattr(below, "MAX_FOLDERS", 11)
    make_run(tmp_path / "y")
    with pytest.raises(nacre.NacreError, match="holds at least 2: "):
        nacre.load(tmp_path)


def test_links_do_not_lead_to_where_the_search_came_from(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "a" / "seed-0"), make_run(tmp_path / "b" / "seed-0")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "beside").symlink_to(tmp_path / "b")
    assert runs_below(tmp_path / "a") == ([tmp_path / "a" / "beside" / "seed-0", run], [])
    (tmp_path / "a" / "beside").unlink()
    assert runs_below(tmp_path / "a") == ([run], []) and other.exists()


def test_a_file_of_somebody_elses_hides_no_runs_below_it(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.json").write_text("{}")
    run = make_run(tmp_path / "project" / "runs" / "seed-0")
    assert runs_below(tmp_path).runs == [run]
    shutil.rmtree(run)
    assert runs_below(tmp_path).runs == [tmp_path / "project"], "a run that has lost a file"


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
