"""What commands write for a person: never in place of a run's own files; flags for what is not written are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import Capture, refusal
from nacre.errors import NacreError
from nacre.report.picture import written_whole
from nacre.runs.outputs import check_output


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["report", "RUN", "--kind", "calibration", "-o", "RUN/eval.png"], "eval.csv"),
        (["report", "RUN", "--kind", "ood", "-o", "RUN/metrics.svg"], "metrics.csv"),
        (["evaluate", "RUN", "--change-at", "8", "--csv", "RUN/eval.csv"], "eval.csv"),
        (["compare", "RUN", "-o", "RUN/config.json"], "config.json"),
        (["compare", "RUN", "-o", "RUN/checkpoints/../tasks.json"], "tasks.json"),
    ],
)
def test_a_runs_own_file_is_no_place_for_an_output(
    command: list[str], file: str, point_run: str, tmp_path: Path, capsys: Capture
):
    run = Path(shutil.copytree(point_run, tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    told = refusal(capsys, *(word.replace("RUN", str(run)) for word in command))
    assert told.endswith(f"{file} is a file of the run in that folder; write to another name.")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["-o", "page.html", "--kind", "calibration"], "--kind is about pictures, but page.html is a page"),
        (["-o", "page.HTML", "--kind", "curves"], "--kind is about pictures"),
        (["-o", "x.png", "--videos", "3"], "only a page shows videos; leave out --videos"),
    ],
)
def test_flags_of_a_report_of_another_kind_are_refused(flags: list[str], told: str, point_run: str, capsys: Capture):
    assert told in refusal(capsys, "report", point_run, *flags)


def test_whoever_writes_a_file_for_a_person_asks_whether_it_is_a_runs(tmp_path: Path):
    (tmp_path / "config.json").write_text("of something else")
    check_output(tmp_path / "eval.csv")
    for name in ("tasks.json", "eval.csv"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(NacreError, match="file of the run"), written_whole(tmp_path / "eval.csv") as draft:
        draft.write_text("theirs")
    assert (tmp_path / "eval.csv").read_text() == "mine" and len(list(tmp_path.iterdir())) == 3
    check_output(tmp_path / "beliefs.csv")
    (tmp_path / "finetune").mkdir()
    check_output(tmp_path / "finetune" / "summary.csv")
    (tmp_path / "finetune" / "finetune.json").write_text("{}")
    with pytest.raises(NacreError, match="file of the run"):
        check_output(tmp_path / "finetune" / "summary.csv")
