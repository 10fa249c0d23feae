"""Jobs by submitit, whose local executor stands for SLURM: they outlive their driver, and the next one finds them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nacre.errors import NacreError
from nacre.runs.experiment import resolve
from nacre.sweeps import slurm
from nacre.sweeps.executor import LOST
from nacre.sweeps.job import Job, progress_of, saved_at
from nacre.sweeps.slurm import SlurmExecutor

pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
PATIENCE = 120.0


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], SlurmExecutor]:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.2)
    return lambda: SlurmExecutor(tmp_path / "slurm", None, 1, 0, {"timeout_min": 10}, cluster="local")


def slow_job(path: Path) -> Job:
    """A run that takes minutes, with a checkpoint after every block of updates."""
    begin = ("--plugin", "slow_method", "train", "slow", "point-robot", "--preset", "smoke", "--iterations", "100000",
             "--evaluation-interval", "100000", "--train-evaluation-interval", "100000", "--checkpoint-minutes", "0",
             "--out", str(path))  # fmt: skip
    return Job(path, resolve("random", "point-robot", "smoke", iterations=100000), begin)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sends signals to processes")
def test_a_job_is_queued_once_found_by_the_next_driver_preempted_and_stopped(
    executor: Callable[[], SlurmExecutor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = slow_job(tmp_path / "run")
    first = executor()
    handle = first.start(job)
    assert handle.poll() is None and first.is_free()
    wait_for(lambda: (saved_at(job.path) or 0) > 1)
    controller = handle._job._process.pid
    (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)  # what SLURM sends before it preempts: a checkpoint, and the job is queued again
    wait_for(lambda: len(json.loads((job.path / "config.json").read_text())["resumed"]) == 1)
    saved = saved_at(job.path)
    assert saved is not None and handle.poll() is None
    wait_for(lambda: (saved_at(job.path) or 0) > saved)
    second = executor()  # the first driver died; its job did not
    monkeypatch.setattr(second, "_find", lambda job_id: {handle._job.job_id: handle._job}[job_id])
    found = second.start(job)
    assert found._job.job_id == handle._job.job_id
    handle.stop()
    wait_for(lambda: handle.poll() is not None)
    ended = handle.poll()
    assert ended is not None and ended.status == 128 + signal.SIGTERM
    assert saved_at(job.path) == progress_of(job.path).grad_steps


def test_what_ended_a_job_is_read_from_its_file_and_a_lost_one_is_lost(
    executor: Callable[[], SlurmExecutor], tmp_path: Path
):
    job = Job(tmp_path / "run", resolve("random", "point-robot", "smoke"), ("trian",))
    handle = executor().start(job)
    wait_for(lambda: handle.poll() is not None)
    ended = handle.poll()
    assert ended is not None and ended.status == 2 and "did you mean 'train'?" in ended.told
    (file,) = (tmp_path / "slurm").glob("*.ended")
    assert json.loads(file.read_text()) == list(ended)
    file.unlink()
    handle._how = None
    wait_for(lambda: handle.poll() is not None)
    lost = handle.poll()
    assert lost is not None and lost.status == LOST and "slurm" in lost.told


def test_settings_that_submitit_does_not_know_are_refused(tmp_path: Path):
    with pytest.raises(NacreError, match=r"\[slurm\] is not as submitit has it"):
        SlurmExecutor(tmp_path, None, 1, 0, {"timeout": 10}, cluster="local")
    with pytest.raises(NacreError, match="SLURM gives whole ones"):
        SlurmExecutor(tmp_path, None, 1, 0.5, {}, cluster="local")
    with pytest.raises(NacreError, match="there is no sbatch here"):
        SlurmExecutor(tmp_path, None, 1, 0, {})
