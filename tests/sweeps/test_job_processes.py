"""nacre train --jobs in processes of its own: a child is killed, Ctrl-C, the driver is killed, and nobody is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nacre.runs.experiment import resolve
from nacre.sweeps.executor import Ended
from nacre.sweeps.job import Job, progress_of, saved_at
from nacre.sweeps.local import LocalExecutor, available_cores, shared_out

PATIENCE = 120.0
ARGUMENTS = [
    "--plugin", "slow_method", "train", "slow", "point-robot", "--preset", "smoke", "--iterations", "100000",
    "--evaluation-interval", "100000", "--train-evaluation-interval", "100000",
]  # fmt: skip
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@contextmanager
def driver(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`nacre train` with the slow method. None of its processes outlives the block."""
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "nacre", *ARGUMENTS, *arguments], env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    family = set[int]()
    try:
        process.family = family  # type: ignore[attr-defined]
        yield process
    finally:
        for pid in family | set(children_of(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def stat_of(pid: int) -> list[str]:
    """State, parent and so on of a process; [] of one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def children_of(pid: int) -> list[int]:
    """The processes that this one has started, and that live."""
    every = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [one for one in every if is_alive(one) and int(stat_of(one)[1]) == pid]


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only its exit status."""
    return stat_of(pid)[:1] not in ([], ["Z"], ["X"])


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_a_process_leaves_no_file_open_and_its_last_words_are_kept():
    executor, before = LocalExecutor(1), len(os.listdir("/proc/self/fd"))
    job = Job(Path("nowhere"), resolve("random", "point-robot", "smoke"), ("trian",))
    for number in range(3):
        process = executor.start(job)
        assert not executor.is_free() or process.poll() is not None
        wait_until(lambda process=process: process.poll() is not None)
        ended = process.poll()
        assert ended is not None and ended.status == 2 and "did you mean 'train'?" in ended.told, number
    process = executor.start(job._replace(begin=("list",)))
    process.kill()
    assert process.poll() == Ended(-signal.SIGKILL, "") and executor.is_free()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_was_killed_continues_and_ctrl_c_stops_it_with_a_checkpoint(tmp_path: Path):
    run = tmp_path / "seed-0"
    with driver("--seeds", "0:1", "--jobs", "1", "--out", str(tmp_path), "--checkpoint-minutes", "0") as process:
        wait_until(lambda: (saved_at(run) or 0) > 2)
        (first,) = children_of(process.pid)
        os.kill(first, signal.SIGKILL)
        saved = saved_at(run)
        assert saved is not None
        wait_until(lambda: (saved_at(run) or 0) > saved + 2)
        (second,) = children_of(process.pid)
        assert second != first
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert not is_alive(second)
    assert saved_at(run) == progress_of(run).grad_steps
    assert "seed-0 was killed by SIGKILL; it resumes from its last checkpoint" in told
    assert "stopped by Ctrl-C; the same command resumes it" in told


def test_children_stop_with_a_checkpoint_when_their_driver_is_killed(tmp_path: Path):
    runs = [tmp_path / "seed-3", tmp_path / "seed-5"]
    with driver("--seeds", "3,5", "--jobs", "2", "--out", str(tmp_path)) as process:
        wait_until(lambda: all(progress_of(run).grad_steps > 1 for run in runs))
        children = children_of(process.pid)
        process.family.update(children)  # type: ignore[attr-defined]
        shares = shared_out(available_cores(), 2)
        assert sorted(sorted(os.sched_getaffinity(child)) for child in children) == sorted(shares)
        process.kill()
        wait_until(lambda: not any(map(is_alive, children)))
    for run in runs:
        assert saved_at(run) == progress_of(run).grad_steps > 1
