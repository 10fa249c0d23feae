"""benchmarks/: tables of runs, runs of tables, and the ablations of preset `fast`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from nacre.config import resolve
from nacre.presets.pearl import PRESETS, PearlConfig
from nacre.run_directory import EVAL_COLUMNS, RunDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ablation
import gather
import restore


@pytest.mark.parametrize("family", sorted(PRESETS["fast"]))
def test_every_departure_of_fast_is_taken_back_by_exactly_one_line(family: str):
    fast, paper = (PearlConfig(**PRESETS[preset][family]) for preset in ("fast", "paper"))
    departing = {name for name in vars(fast) if getattr(fast, name) != getattr(paper, name)} - set(ablation.LOOP)
    taken_back = [name for fields in ablation.departures(family).values() for name in fields]
    assert sorted(taken_back) == sorted(departing)
    for line, fields in ablation.departures(family).items():
        settings = resolve("pearl", family, "fast", **fields).settings  # a possible combination
        assert all(getattr(settings, name) == getattr(paper, name) for name in fields), line


def test_a_table_gathered_from_runs_restores_to_runs_with_the_same_rows(tmp_path, monkeypatch):
    run = RunDirectory.create(tmp_path / "run", resolve("pearl", "point-robot", "smoke", seed=3))
    rows = [["40", "10", "1.5", "test", "0", "0", "1", "-2.25"], ["40", "10", "1.5", "test", "0", "0", "2", "-1.0"]]
    with (run.path / "eval.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([EVAL_COLUMNS, *rows])
    table = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["gather.py", str(run.path), "-o", str(table)])
    gather.main()
    (restored,) = restore.restore(table, tmp_path / "out")
    assert (restored / "eval.csv").read_text() == (run.path / "eval.csv").read_text()
    assert RunDirectory(restored).experiment == run.experiment
