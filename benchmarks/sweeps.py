"""What a sweep survives and costs, on this machine.

    python benchmarks/sweeps.py kills OUT        40 runs twice, once with kills of workers and of the driver: equal?
    python benchmarks/sweeps.py leftovers OUT    processes and open files after a sweep of 100 runs
    python benchmarks/sweeps.py costs OUT        ratios: a job to a bare run, two jobs at once to one after the other

OUT is a folder for the runs, which must not exist. Each prints one JSON object; `kills` also writes OUT/kills.csv.
Linux: it looks for processes in /proc.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import nacre
from nacre.sweeps.engine import run_jobs
from nacre.sweeps.job import saved_at
from nacre.sweeps.local import LocalExecutor, available_cores
from nacre.sweeps.plan import plan
from nacre.sweeps.source import Listed
from nacre.sweeps.spec import read_spec
from nacre.sweeps.view import StderrView

SMOKE = 'algorithm = "pearl"\nfamily = "point-robot"\npreset = "smoke"\n'
KILLS = (
    f'{SMOKE}seeds = "0:5"\n[fields]\niterations = 4\ncheckpoint_minutes = 0\n'
    "[grid]\nkl_weight = [0.1, 0.3, 1.0, 3.0]\ndiscount = [0.9, 0.99]\n"
)
WORKER_KILLS_AFTER = (4, 12, 20)
"""Complete runs after which the next worker that has a checkpoint is killed."""
DRIVER_KILL_AFTER = 28
REPEATS = int(os.environ.get("REPEATS", "3"))
"""Turns of `costs` that count."""


def main() -> None:
    command, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(parents=True)
    print(json.dumps({"kills": kills, "leftovers": leftovers, "costs": costs}[command](out)))


# ----------------------------------------------------------------------------------------------------------------------
# What it survives


def kills(out: Path) -> dict[str, Any]:
    """The same sweep undisturbed and disturbed, and in how many runs their tables differ."""
    spec = out / "kills.toml"
    spec.write_text(KILLS)
    calm, wild = out / "undisturbed", out / "disturbed"
    subprocess.run(driver_command(spec, calm), check=True, stdout=subprocess.DEVNULL)
    return disturbed(spec, wild) | agreement(spec, calm, wild) | {"processes_left": len(processes_of(out))}


def disturbed(spec: Path, wild: Path) -> dict[str, Any]:
    """Does the sweep while workers and its driver are killed; what was killed, and the driver's open files."""
    told, calls, waiting = list[str](), 0, list(WORKER_KILLS_AFTER)
    driver_was_killed, open_files = False, list[int]()
    while True:
        calls += 1
        driver = subprocess.Popen(driver_command(spec, wild), stdout=subprocess.DEVNULL)
        while driver.poll() is None:
            done = sum(is_done(path) for path in run_paths(spec, wild))
            with suppress(OSError):
                open_files.append(len(os.listdir(f"/proc/{driver.pid}/fd")))
            if waiting and done >= waiting[0] and (victim := saved_worker(driver.pid)) is not None:
                os.kill(victim[0], signal.SIGKILL)
                told.append(f"worker of {victim[1].relative_to(wild)} killed, {done} runs complete")
                waiting.pop(0)
            if done >= DRIVER_KILL_AFTER and not driver_was_killed:
                driver_was_killed = True
                workers = children(driver.pid)
                driver.kill()
                driver.wait()
                told.append(f"driver killed, {done} runs complete")
                while any(map(is_alive, workers)):
                    time.sleep(0.1)
            time.sleep(0.05)
        if driver_was_killed and driver.returncode == 0:
            break
        assert driver.returncode == -signal.SIGKILL, driver.returncode
    return {"calls": calls, "told": told, "most_open_files_of_driver": max(open_files)}


def agreement(spec: Path, calm: Path, wild: Path) -> dict[str, Any]:
    """In how many runs two sweeps agree; writes kills.csv, a row a run."""
    rows = [compared(calm / path, wild / path, path) for path in relative_paths(spec)]
    with (spec.parent / "kills.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return {
        "runs": len(rows), "complete": sum(row["updates"] == row["of"] for row in rows),
        "equal": sum(row["equal"] for row in rows), "comparisons_equal": comparison(calm) == comparison(wild),
    }  # fmt: skip


def compared(calm: Path, wild: Path, path: Path) -> dict[str, Any]:
    """A run of both sweeps: how far it came, its last score, how often it continued, and whether all numbers agree."""
    one, other = nacre.RunDirectory(calm), nacre.RunDirectory(wild)
    equal = numbers(one) == numbers(other)
    evaluations = one.evaluations()
    last = (evaluations["split"] == "test") & (evaluations["grad_steps"] == evaluations["grad_steps"].max())
    last &= evaluations["episode"] == evaluations["episode"][last].max()
    settings = one.experiment.settings
    config = json.loads((wild / "config.json").read_text())
    return {
        "run": str(path), "kl_weight": settings.kl_weight, "discount": settings.discount, "seed": path.name[5:],
        "updates": saved_at(wild), "of": settings.iterations * settings.num_train_steps_per_iteration,
        "score": f"{evaluations['return'][last].mean():.6g}", "resumed": len(config.get("resumed", [])), "equal": equal,
    }  # fmt: skip


def numbers(run: nacre.RunDirectory) -> list[list[str]]:
    """Every cell of the run's tables but the clock's."""
    cells = []
    for file in ("metrics.csv", "eval.csv"):
        rows = list(csv.DictReader((run.path / file).open()))
        cells += [[value for name, value in row.items() if name != "wall_seconds"] for row in rows]
    return cells


def comparison(folder: Path) -> list[list[str]]:
    """The sweep's results.csv without minutes."""
    rows = list(csv.DictReader((folder / "results.csv").open()))
    return [[value for name, value in row.items() if "minutes" not in name] for row in rows]


def leftovers(out: Path) -> dict[str, Any]:
    """Open files and processes before and after a sweep of 100 smoke runs in this process."""
    spec = {"algorithm": "random", "family": "point-robot", "preset": "smoke", "seeds": "0:100"}
    before = len(os.listdir("/proc/self/fd")), len(children(os.getpid()))
    began = time.monotonic()
    swept = nacre.sweep(spec, out=out / "runs")
    after = len(os.listdir("/proc/self/fd")), len(children(os.getpid()))
    return {
        "complete": len(swept.runs), "open_files": [before[0], after[0]], "children": [before[1], after[1]],
        "processes_left": len(processes_of(out)), "seconds": round(time.monotonic() - began),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------
# What it costs


def costs(out: Path) -> dict[str, Any]:
    """Ratios of seconds, of runs that have compiled before; measured in turns, so that a busy machine meets all.

    Runs have 2000 iterations, about half a minute. A sweep's driver takes half a second to start and two seconds for
    the table at the end, whatever its runs take.
    """
    spec = out / "costs.toml"
    spec.write_text(f'{SMOKE}seeds = "0:2"\n[fields]\niterations = 2000\n')
    jobs = plan(read_spec(spec, out))
    core = str(available_cores()[0])

    def bare(folder: Path, number: int) -> None:
        _, *arguments = jobs[number].job.begin
        arguments = [*arguments[: arguments.index("--out")], "--out", str(folder)]
        command = ["taskset", "-c", core, sys.executable, "-m", "nacre", "train", *arguments]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    def job(folder: Path) -> None:
        _, *arguments = jobs[0].job.begin
        begin = ("train", *arguments[: arguments.index("--out")], "--out", str(folder))
        source = Listed([jobs[0].job._replace(path=folder, begin=begin)])
        with StderrView() as view:
            finished = run_jobs(source, LocalExecutor(len(available_cores())), view)
        assert [outcome.state for outcome in finished.outcomes] == ["done"]

    def swept(folder: Path, *flags: str) -> None:
        command = [*driver_command(spec, folder)[:-2], *flags]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    bare(out / "compiles", 0)
    found: dict[str, list[float]] = {"bare": [], "job": [], "other_bare": [], "two_at_once": [], "nothing_to_do": []}
    for repeat in range(REPEATS):
        turn = out / f"turn-{repeat}"
        times = {
            "bare": seconds(lambda: bare(turn / "bare-0", 0)),  # noqa: B023 (called here)
            "job": seconds(lambda: job(turn / "job")),  # noqa: B023
            "two_at_once": seconds(lambda: swept(turn / "both", "--jobs", "2")),  # noqa: B023
            "other_bare": seconds(lambda: bare(turn / "bare-1", 1)),  # noqa: B023
            "nothing_to_do": seconds(lambda: swept(turn / "both", "--only", "0")),  # noqa: B023
        }
        for name, value in times.items():
            found[name].append(round(value, 2))
    both = np.array(found["bare"]) + found["other_bare"]
    return {
        "overhead_of_a_job": round(float(np.median(np.array(found["job"]) / (both / 2))) - 1, 4),
        "speed_of_two_jobs": round(float(np.median(both / found["two_at_once"])), 3),
        "seconds": found, "load": os.getloadavg()[0],
    }  # fmt: skip


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


# ----------------------------------------------------------------------------------------------------------------------
# Runs and processes


def driver_command(spec: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "nacre", "sweep", str(spec), "--out", str(out), "--jobs", "2"]


def relative_paths(spec: Path) -> list[Path]:
    return [one.job.path for one in plan(read_spec(spec, Path()))]


def run_paths(spec: Path, out: Path, known: dict[Path, list[Path]] = {}) -> list[Path]:  # noqa: B006 (a cache)
    if spec not in known:
        known[spec] = relative_paths(spec)
    return [out / path for path in known[spec]]


def is_done(path: Path) -> bool:
    return (saved_at(path) or 0) >= 40


def children(pid: int) -> list[int]:
    """Processes that this one has started and that live."""
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            state, parent, *_ = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(parent) == pid and state != "Z":
                found.append(int(entry))
    return found


def saved_worker(driver: int) -> tuple[int, Path] | None:
    """A worker whose run has a checkpoint, but not its last."""
    for pid in children(driver):
        with suppress(OSError, StopIteration):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            path = next(path for path in runs_of(words))
            if saved_at(path) is not None and not is_done(path):
                return pid, path
    return None


def runs_of(words: list[str]) -> Iterator[Path]:
    """The run directory that a command line names."""
    if "--out" in words:
        yield Path(words[words.index("--out") + 1])
    elif "resume" in words:
        yield Path(words[words.index("resume") + 1])


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def processes_of(out: Path) -> list[int]:
    """Processes whose command line names the folder, but for this one."""
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if str(out) in Path(f"/proc/{entry}/cmdline").read_text() and int(entry) != os.getpid():
                found.append(int(entry))
    return found


if __name__ == "__main__":
    main()
