"""Sinks: each fails by itself, none stops a run, and none loses points before a checkpoint."""

from __future__ import annotations

import errno
import shutil
import sys
import time
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tensorboardX.event_file_writer import EventsWriter

import nacre
from nacre.families import plugins
from nacre.runs import logs
from nacre.runs.pace import Pace
from nacre.runs.sinks import TensorBoard


def events(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


def test_points_are_on_disk_after_a_flush_and_every_file_is_a_new_one(tmp_path: Path) -> None:
    for number in range(2):  # in one second
        board = TensorBoard(tmp_path / "tensorboard", purge_step=number)
        board.log({f"update/kl{number}": 0.5}, 10, 100)
        board.flush()  # and never closed, as in a kill
        assert f"update/kl{number}".encode() in events(tmp_path / "tensorboard")
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_clock_that_is_set_back_by_years_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    clock = [now]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    board = TensorBoard(tmp_path / "tensorboard", purge_step=1)
    clock[0] = now - 3e8
    for step in range(100):  # more than a queue would hold
        board.log({"update/kl": 0.5}, step, step)
    board.close()
    assert events(tmp_path / "tensorboard").count(b"update/kl") == 100


class FakeRun:
    id = "abc"

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, row: dict[str, Any], step: int) -> None:
        self.rows.append(row | {"step": step})

    def finish(self) -> None:
        """Nothing to send."""


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Weights & Biases as far as nacre uses it; what `init` was called with."""
    calls: list[dict[str, Any]] = []

    def init(**options: Any) -> FakeRun:
        calls.append(options)
        return FakeRun()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    return calls


def test_a_resumed_run_is_the_same_run_at_weights_and_biases_which_is_told_all_settings(
    wandb: list[dict[str, Any]], tmp_path: Path
) -> None:
    run = nacre.train("random", "sparse-point-robot", preset="smoke", wandb=True, out=tmp_path / "run")
    nacre.resume(run.path, iterations=3, wandb=True)
    assert [call["id"] for call in wandb] == [None, "abc"]
    config = wandb[0]["config"]
    assert (config["algorithm"], config["family"], config["preset"]) == ("random", "sparse-point-robot", "smoke")
    assert config["goal_radius"] == run.experiment.family.goal_radius  # type: ignore[attr-defined]
    assert (config["seed"], config["iterations"]) == (0, run.experiment.settings.iterations)


@pytest.mark.parametrize("sink", ["TensorBoard", "Weights & Biases"])
def test_a_sink_that_fails_is_told_of_once_and_the_run_continues(
    sink: str, wandb: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def broken(self: Any, *args: Any, **options: Any) -> None:
        if isinstance(self, EventsWriter):
            self.close()  # fails in the making, after which nobody has it
        raise OSError(errno.ENOSPC, "No space left on device")

    if sink == "TensorBoard":
        monkeypatch.setattr(EventsWriter, "write_event", broken)
    else:
        monkeypatch.setattr(FakeRun, "log", broken)
    run = nacre.train("random", "point-robot", preset="smoke", iterations=4, wandb=True, out=tmp_path / "run")
    assert run.metrics()["grad_steps"].tolist() == [1, 2, 3, 4]
    assert capsys.readouterr().err.count(f"{sink} failed (No space left on device); the run continues without it") == 1


class FakeSink:
    """A sink as a package would offer it."""

    told: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, run: nacre.RunDirectory):
        self.told.append(("run", run.experiment.family.name))

    def log(self, values: dict[str, float], grad_steps: int, env_steps: int) -> None:
        self.told.append((*values, grad_steps, env_steps))

    def flush(self) -> None:
        self.told.append(("flush",))

    def close(self) -> None:
        self.told.append(("close",))


def test_sinks_of_installed_packages_are_told_what_the_tables_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = metadata.EntryPoint("fake", "test_logs:FakeSink", "nacre.sinks")
    monkeypatch.setattr(plugins, "entry_points", lambda group: {"fake": offered} if group == "nacre.sinks" else {})
    monkeypatch.setenv("NACRE_SINKS", "fake,")
    run = nacre.train("random", "point-robot", preset="smoke", iterations=2, out=tmp_path / "run")
    told = FakeSink.told
    assert told[0] == ("run", "point-robot") and told[-2:] == [("flush",), ("close",)]
    evaluated = [row[-2:] for row in told if row[0] == "test/return_episode_1"]
    assert evaluated == [(1, 0), (2, 0)] and set(run.evaluations()["grad_steps"]) == {1, 2}
    monkeypatch.setenv("NACRE_SINKS", "fakes")
    with pytest.raises(nacre.NacreError, match="unknown sink in NACRE_SINKS 'fakes'; did you mean 'fake'"):
        nacre.train("random", "point-robot", preset="smoke", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_closed_stderr_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any, **options: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(logs.console, "print", gone)
    run = nacre.train("random", "point-robot", preset="smoke", out=tmp_path / "run")
    assert len(run.evaluations()["return"]) > 0


def test_lines_of_seeds_side_by_side_name_their_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nacre.train_seeds("random", "point-robot", (3, 5), preset="smoke", out=tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith(("seed 3: ", "seed 5: ")) for line in lines)


def test_a_finished_run_says_so_and_is_left_as_it_is(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    capsys.readouterr()
    nacre.resume(run)
    heard = capsys.readouterr().err
    assert heard == f"nacre: the run at {run} is complete: 2 iterations; raise --iterations to continue.\n"
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


# ----------------------------------------------------------------------------------------------------------------------
# Time left


def test_time_left_counts_updates_collections_and_evaluations_but_no_compilation() -> None:
    pace = Pace(num_updates=100)
    pace.block(500.0, 50, 50)  # compiles and collects
    assert pace.left(50, 400) is None
    pace.block(5.0, 100, 50)
    assert pace.left(100, 400) == pytest.approx(300 * 0.1)
    pace.evaluation(60.0)  # compiles
    pace.block(12.0, 150, 50)  # collects for 7 seconds
    pace.block(5.0, 200, 50)
    pace.evaluation(3.0)
    assert pace.left(200, 400) == pytest.approx(200 * 0.1 + 2 * 7.0 + 2 * 3.0)
    assert pace.left(250, 400) == pytest.approx(150 * 0.1 + 1 * 7.0 + 2 * 3.0)


def test_where_a_block_is_a_whole_iteration_time_left_counts_iterations() -> None:
    pace = Pace(num_updates=10, evaluation_interval=2)
    pace.block(500.0, 10, 10)
    assert pace.left(10, 100) is None
    pace.block(4.0, 20, 10)
    assert pace.left(20, 100) == pytest.approx(8 * 4.0)
    pace.evaluation(50.0)
    pace.evaluation(6.0)
    assert pace.left(20, 100) == pytest.approx(8 * 4.0 + 4 * 6.0)
