"""What a person sees of many jobs: on a terminal a table of all of them, elsewhere lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fake_executor import FakeHandle
from nacre.runs.experiment import resolve
from nacre.sweeps import view
from nacre.sweeps.engine import Running
from nacre.sweeps.job import Job
from nacre.sweeps.source import Outcome
from nacre.sweeps.view import StderrView

Capture = pytest.CaptureFixture[str]


def told(folder: Path, capsys: Capture) -> list[str]:
    """What a view says of five jobs, each of which fares differently, in lines without colours."""
    experiment = resolve("random", "point-robot", "smoke")
    jobs = [Job(folder / f"run-{number}", experiment, ()) for number in range(5)]
    with StderrView() as shown:
        shown.begun(jobs, 5, 0)
        for job in jobs[:3]:
            shown.started(job)
        shown.look([Running(job, FakeHandle(job, None), 0) for job in jobs[:3]])  # type: ignore[arg-type]
        shown.died(jobs[1], "killed by SIGKILL")
        shown.started(jobs[1])
        shown.ended(Outcome(jobs[0], "done"))
        shown.ended(Outcome(jobs[2], "refused", "no such thing."))
        shown.held(jobs[3])
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).splitlines()


def test_elsewhere_there_is_a_line_when_something_happens(tmp_path: Path, capsys: Capture):
    lines = told(tmp_path, capsys)
    assert lines[1:5] == ["run-0 begins", "run-1 begins", "run-2 begins",
                          "run-1 was killed by SIGKILL; it resumes from its last checkpoint"]  # fmt: skip
    assert "run-2 refused: no such thing." in lines
    assert lines[-1] == "run-3 is being trained by another process, which is waited for"


def test_a_terminal_shows_every_job_with_its_state(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "LINES": "40", "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(view, "LOOK_SECONDS", 0.001)
    table = [line.split()[:2] for line in told(tmp_path, capsys)[-6:]]
    assert table == [["run-0", "done"], ["run-1", "at"], ["run-2", "refused"], ["run-3", "waiting"],
                     ["run-4", "waiting"], ["all", "5"]]  # fmt: skip
    monkeypatch.setenv("LINES", "12")  # no room for all of them
    assert [line.split()[:2] for line in told(tmp_path, capsys)[-2:]] == [["all", "5"], ["run-1", "at"]]
