"""What meta-training is for: on goals it has never seen an agent is better at the end of a trial than at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

import nacre


def returns_by_episode(run: Path, episodes: int | None = None) -> list[float]:
    """Means over 100 goals that are neither train nor test tasks."""
    returns, _ = nacre.load(run).evaluate("fresh:100", episodes=episodes)
    return returns.mean(axis=(0, 1)).tolist()


@pytest.mark.slow
def test_pearls_last_episode_beats_its_first(tmp_path: Path) -> None:
    """Last checkpoints of seeds 1 to 3 gain 7.9 to 8.2 (benchmarks/results/point-robot-rules-evaluate-S.json)."""
    nacre.train("pearl", "point-robot", preset="fast", seed=1, out=tmp_path / "run")
    first, *_, last = returns_by_episode(tmp_path / "run")
    assert last > first + 5.0, f"{first:.1f} to {last:.1f}"


@pytest.mark.slow
def test_maesns_last_episode_beats_its_first(tmp_path: Path) -> None:
    """After 15 iterations seeds 0 to 2 gained 2.2 to 2.7 within 20 episodes (benchmarks/results/figure-sparse.csv)."""
    nacre.train("maesn", "sparse-point-robot", goal_radius=0.8, iterations=15, seed=0, out=tmp_path / "run")
    first, *_, last = returns_by_episode(tmp_path / "run", episodes=20)
    assert last > first + 1.5, f"{first:.1f} to {last:.1f}"
