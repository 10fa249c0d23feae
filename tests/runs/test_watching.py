"""`on_iteration`: what it is shown, what becomes of the numbers that it returns and of what it raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre

SMOKE: dict[str, Any] = dict(preset="smoke", iterations=2)


def test_it_sees_every_iteration_and_its_numbers_are_logged(tmp_path: Path) -> None:
    seen: list[nacre.Iteration] = []

    def watch(now: nacre.Iteration) -> dict[str, float]:
        seen.append(now)
        return {"twice": 2.0 * now.iteration, "steps/k": np.float32(0.5)}  # type: ignore[dict-item]

    run = nacre.train("rl2", "point-robot", out=tmp_path / "run", on_iteration=watch, **SMOKE)
    metrics, extra = run.metrics(), run.extra_metrics()
    assert [now.iteration for now in seen] == [1, 2]
    assert [now.env_steps for now in seen] == sorted(set(metrics["env_steps"].tolist()))
    for now in seen:
        assert now.run.path == run.path and now.returns is not None and now.returns.ndim == 3
    name = next(iter(seen[-1].metrics))
    assert np.isclose(seen[-1].metrics[name], metrics[name][-1], rtol=1e-4)
    assert extra["name"].tolist() == ["twice", "steps/k"] * 2 and extra["value"].tolist() == [2.0, 0.5, 4.0, 0.5]
    assert extra["grad_steps"].tolist() == [seen[0].grad_steps] * 2 + [seen[1].grad_steps] * 2
    events = b"".join(file.read_bytes() for file in (run.path / "tensorboard").iterdir())
    assert b"extra/twice" in events


def test_what_it_raises_ends_the_run_with_a_checkpoint_and_reaches_the_caller(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    error = Enough("of it")

    def watch(now: nacre.Iteration) -> None:
        raise error

    with pytest.raises(Enough) as raised:
        nacre.train("rl2", "point-robot", out=tmp_path / "run", on_iteration=watch, **SMOKE)
    assert raised.value is error
    whole = nacre.train("rl2", "point-robot", out=tmp_path / "whole", **SMOKE)
    again = nacre.resume(tmp_path / "run", on_iteration=lambda now: {"again": 1})
    assert again.evaluations()["return"].tolist() == whole.evaluations()["return"].tolist()
    assert again.extra_metrics()["meta_iterations"].tolist() == [2]


@pytest.mark.parametrize("returned", [3.0, {"a": "b"}, {"a": float("nan")}, {"a,b": 1.0}, {1: 1.0}], ids=str)
def test_what_is_no_number_by_name_is_refused(returned: Any, tmp_path: Path) -> None:
    from nacre.runs.watching import extra_metrics

    with pytest.raises(nacre.NacreError, match="on_iteration"):
        extra_metrics(returned)


def test_of_several_seeds_it_sees_every_one(tmp_path: Path) -> None:
    seen = []
    nacre.train_seeds(
        "rl2", "point-robot", [0, 4], out=tmp_path, preset="smoke", iterations=1,
        on_iteration=lambda now: seen.append((now.run.experiment.options.seed, now.iteration)),
    )  # fmt: skip
    assert seen == [(0, 1), (4, 1)]
