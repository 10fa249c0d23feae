"""nacre sweep: what it starts is what it plans, its tables, and that a second call continues."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import nacre
from command_line import Capture, output, refusal, run
from fake_executor import DONE, FAULT, KILLED, FakeExecutor
from nacre.cli.sweep import parse_numbers
from nacre.report import reproduce
from nacre.runs.directory import RunDirectory
from nacre.sweeps import engine, running
from nacre.sweeps.job import Job, score_of
from nacre.sweeps.plan import plan
from nacre.sweeps.spec import read_spec

SWEEP = {"algorithm": "random", "family": "point-robot", "preset": "smoke", "grid": {"task_seed": [1, 2]}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeExecutor:
    """Does the jobs of every sweep, without doing anything."""
    executor = FakeExecutor(2, {})
    begin = executor.start

    def start(job: Job, flags: Sequence[str] = ()) -> Any:
        if not job.path.exists():
            RunDirectory.create(job.path, job.experiment)
            (job.path / "checkpoints").mkdir()
        return begin(job, flags)

    monkeypatch.setattr(executor, "start", start)
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(running, "LocalExecutor", lambda jobs, cores: executor)
    return executor


def test_a_time_limit_that_is_none_is_refused_before_the_sweep_has_a_folder(tmp_path: Path):
    with pytest.raises(nacre.NacreError, match="the time limit is 0 minutes"):
        nacre.sweep(SWEEP, out=tmp_path / "sweep", time_limit=0)
    assert not (tmp_path / "sweep").exists()


def test_the_command_of_a_job_is_the_run_that_was_planned(untrained: list[Any], tmp_path: Path):
    fields = {"kl_weight": 1e-05, "latent_dim": 3, "use_next_obs_in_context": True, "precision": "bfloat16"}
    spec = {"algorithm": "pearl", "family": "sparse-point-robot", "preset": "smoke", "seeds": [4], "fields": fields}
    (planned,) = plan(read_spec(spec | {"grid": {"goal_radius": [0.25]}}, tmp_path))
    assert run(*planned.job.command()) == 0
    ((experiment, path, _),) = untrained
    assert (experiment, path) == (planned.job.experiment, planned.job.path)


def test_the_commands_of_a_figures_runs_are_those_that_were_planned(untrained: list[Any], tmp_path: Path):
    steps = [step for figure in ("sparse", "encoder") for step in reproduce.planned(figure, "short", [2], tmp_path)]
    for step in steps:
        job = step.job()
        assert job is not None and run(*job.command()) == 0
        assert untrained.pop()[:2] == (job.experiment, job.path)
    assert len(steps) == 7


def test_jobs_that_failed_are_told_and_a_second_call_does_them_and_no_others(fake: FakeExecutor, tmp_path: Path):
    spec = SWEEP | {"seeds": "0:2"}
    fake.ends = {"seed-1": [KILLED, KILLED, KILLED, FAULT]}
    swept = nacre.sweep(spec, out=tmp_path)
    assert sorted(outcome.state for outcome in swept.outcomes) == ["done", "done", "failed", "failed"]
    folder = tmp_path / "point-robot" / "random"
    assert swept.runs == [folder / f"task_seed={number}" / "seed-0" for number in (1, 2)]
    rows = list(csv.DictReader((tmp_path / "jobs.csv").open()))
    assert [(row["task_seed"], row["seed"], row["state"]) for row in rows] == [
        ("1", "0", "done"), ("1", "1", "failed"), ("2", "0", "done"), ("2", "1", "failed")
    ]  # fmt: skip
    assert {row["told"] for row in rows} == {"", "killed by SIGKILL 3 times", "ValueError: x"}
    fake.started.clear()
    fake.ends = {"seed-1": [DONE, DONE]}
    assert len(nacre.sweep(spec, out=tmp_path).runs) == 4
    assert [started[:2] for started in fake.started] == [["resume", "seed-1"]] * 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"jobs": 0}, "jobs is 0"), ({"on": "mars"}, "unknown place 'mars'"), ({"gpus": -1}, "gpus is -1"),
        ({"gpus": 1}, "leave out --gpus"),
        ({"address": "auto"}, "--address is the address of a Ray cluster"), ({"on": "ray"}, "name the Ray cluster"),
    ],
)  # fmt: skip
def test_machines_that_cannot_be_are_refused_and_nothing_is_written(wrong: dict[str, Any], told: str, tmp_path: Path):
    with pytest.raises(nacre.NacreError, match=told):
        nacre.sweep(SWEEP, out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_place_of_a_job_is_refused(fake: FakeExecutor, tmp_path: Path):
    RunDirectory.create(
        tmp_path / "point-robot/random/task_seed=2/seed-0", nacre.resolve("random", "point-robot", "smoke")
    )
    with pytest.raises(nacre.NacreError, match="other settings"):
        nacre.sweep(SWEEP, out=tmp_path)
    assert fake.started == []


def test_the_command_prints_jobs_and_then_the_comparison_of_the_runs(
    fake: FakeExecutor, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "one.toml"
    file.write_text('algorithm = "random"\nfamily = "point-robot"\npreset = "smoke"\n[grid]\ntask_seed = [1]\n')
    monkeypatch.chdir(tmp_path)
    shown = output(capsys, "sweep", "one.toml", "--dry-run")
    assert shown.count("waiting") == 1 and not (tmp_path / "runs").exists()
    begin = fake.start
    monkeypatch.setattr(fake, "start", lambda job, flags=(): (run(*job.command()), begin(job, flags))[1])
    shown = output(capsys, "sweep", "one.toml", "--jobs", "2")
    (row,) = csv.DictReader((tmp_path / "runs/one/results.csv").open())
    score = score_of(tmp_path / "runs/one/point-robot/random/task_seed=1/seed-0")
    assert score is not None and abs(float(row["mean"]) - score) < 1e-4
    assert f"{float(row['iqm']):.1f}" in shown
    assert output(capsys, "sweep", "one.toml", "--dry-run").count("done") == 1
    assert "has the jobs 0 to 0; change --only" in refusal(capsys, "sweep", "one.toml", "--only", "1:4")


def test_a_dry_run_of_some_jobs_prints_those_with_their_numbers(capsys: Capture, tmp_path: Path):
    file = tmp_path / "four.toml"
    file.write_text('algorithm = "random"\nfamily = "point-robot"\npreset = "smoke"\nseeds = "0:4"\n')
    command = ["sweep", str(file), "--dry-run", "--out", str(tmp_path / "o")]
    lines = [line.split()[0] for line in output(capsys, *command, "--only", "2").splitlines()[1:]]
    assert lines == ["2"]
    assert "has the jobs 0 to 3; change --only" in refusal(capsys, *command, "--only", "3:6")


def test_numbers_of_jobs():
    assert (parse_numbers("3"), parse_numbers("0:10")) == (range(3, 4), range(10))
    with pytest.raises(nacre.NacreError, match="--only is 'x'"):
        parse_numbers("x")
