"""Calibration of beliefs and sweeps beyond the range: numbers known in advance, and what is written."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from nacre.cli import main as cli
from nacre.report import calibration, probe
from nacre.report.beliefs import Beliefs

RNG = np.random.default_rng(0)


def believed(sureness: float) -> Beliefs:
    """Beliefs whose mean misses z by a standard normal error, and that say 1 / `sureness` of it."""
    z = RNG.uniform(-5, 5, (2000, 2))
    mean = z + RNG.standard_normal(z.shape)
    tasks = z @ np.array([[2.0], [-1.0]]) + 3.0
    return Beliefs(tasks, mean[None], np.full((1, *z.shape), 1 / sureness), np.zeros((1, 2000)))


def test_a_probe_learns_squares_and_products_and_tells_its_error() -> None:
    points = RNG.standard_normal((400, 2))
    truth = np.stack([points[:, 0] * points[:, 1] + 1, points[:, 0] ** 2 - points[:, 1]], axis=1)
    exact = probe.fit(points, truth)
    np.testing.assert_allclose(exact(points), truth, atol=1e-3)
    noisy = probe.fit(points, truth + 0.5 * RNG.standard_normal(truth.shape))
    np.testing.assert_allclose(noisy.error, 0.5, rtol=0.1)


def test_intervals_of_an_honest_belief_hold_the_task_as_often_as_they_say() -> None:
    points = RNG.uniform(-5, 5, (400, 2))
    exact = probe.fit(points, points @ np.array([[2.0], [-1.0]]) + 3.0)
    honest = calibration.of_beliefs(exact, believed(1.0), ["task"])
    np.testing.assert_allclose(honest.coverage[0, 0], calibration.LEVELS, atol=0.03)
    too_sure = calibration.of_beliefs(exact, believed(3.0), ["task"])
    normal = NormalDist()
    expected = [2 * normal.cdf(normal.inv_cdf((1 + level) / 2) / 3) - 1 for level in calibration.LEVELS]
    np.testing.assert_allclose(too_sure.coverage[0, 0], expected, atol=0.03)
    spread = 25 / 3 * 5  # the variance of the task: that of z, of both numbers
    np.testing.assert_allclose(honest.explained, 1 - 5 / spread, atol=0.02)


def test_a_direction_in_which_all_beliefs_are_wide_tells_nothing_of_the_task() -> None:
    """A second latent number that is never used: its means are nearly 0 everywhere, its deviation is 1."""

    def used_and_unused(trials: int) -> Beliefs:
        task = RNG.uniform(0, 3, (trials, 1))
        unused = 1e-3 * RNG.standard_normal(task.shape)
        mean = np.concatenate([task + 0.05 * RNG.standard_normal(task.shape), unused], axis=1)
        std = np.broadcast_to([0.05, 1.0], mean.shape)
        return Beliefs(task, mean[None], std[None], np.zeros((1, trials)))

    result = calibration.of_beliefs(calibration.probe_of(used_and_unused(200)), used_and_unused(200), ["task"])
    low, high = result.intervals
    assert 0.08 < np.median(high - low) < 0.2  # of an honest one: 2 * 1.28 * 0.05
    assert 0.65 < result.coverage[0, 0, 1] < 0.95
    assert result.explained > 0.98


def test_the_command_draws_and_writes_a_table(
    smoke_run: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = smoke_run("point-robot"), tmp_path / "honest.png"
    assert cli.main(["report", "--kind", "calibration", str(run), "-o", str(out)]) == 2
    assert "needs 10 train tasks" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(calibration, "LEAST_TASKS", 2)
    monkeypatch.setattr(calibration, "REPEATS", 2)
    assert cli.main(["report", "--kind", "calibration", str(run), "-o", str(out)]) == 0
    rows = table(out.with_suffix(".csv"))
    assert out.stat().st_size > 0 and len(rows) == 3 * 2 * len(calibration.LEVELS)
    assert {row["parameter"] for row in rows} == {"goal.0", "goal.1"}
    assert cli.main(["report", "--kind", "ood", str(run), "-o", str(tmp_path / "far.png")]) == 0
    rows = table(tmp_path / "far.csv")
    assert len(rows) == 6 * 3
    for row in rows:
        reach, distance = max(abs(float(row["goal.0"])), abs(float(row["goal.1"]))), float(row["distance"])
        assert reach <= 1 if distance == 0 else np.isclose(reach, 1 + distance, rtol=0.01)
        assert float(row["return"]) < 0 < float(row["belief_std"])


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as handle:
        return list(csv.DictReader(handle))
