"""`nacre resume`: what a run cannot be resumed with."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Capture, refusal


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--iterations", "1"], "2 iterations"),
        (["--iterations", "0"], "iterations"),
        (["--iterations", "many"], "--iterations"),
        (["--time-limit", "nan"], "time limit"),
        (["--preset", "paper"], "unknown option '--preset'"),
        (["--latent-dim", "3"], "unknown option '--latent-dim'"),
    ],
)
def test_what_a_run_cannot_be_resumed_with_is_refused(
    flags: list[str], part: str, point_run: str, capsys: Capture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*") if path.name != "lock"}
    assert part in refusal(capsys, "resume", point_run, *flags)
    after = {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*") if path.name != "lock"}
    assert after == before
