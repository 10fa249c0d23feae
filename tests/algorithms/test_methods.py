"""Every method but PEARL on a robot that falls: it trains, continues exactly where it stopped, is scored and adapts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nacre
from documented import undocumented
from nacre.algorithms import rl2
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli import main as cli
from nacre.learning import on_policy, trust_region
from nacre.presets.rl2 import Rl2Settings
from nacre.runs.tables import COUNTERS
from warm_starts import assert_starts_from

METHODS = [name for name, one in ALGORITHMS.items() if name not in ("pearl", "oracle") and not one.offline]
"""The others have tests of their own."""


def numbers(run: Path, file: str) -> list[list[str]]:
    """A table without its wall-clock column."""
    header, *rows = [line.split(",") for line in (run / file).read_text().splitlines()]
    clock = header.index("wall_seconds")
    return [row[:clock] + row[clock + 1 :] for row in [header, *rows]]


SEED = 3
SETTINGS: dict[str, Any] = dict(preset="smoke", iterations=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], nacre.RunDirectory]:
    """method -> its run on a robot that falls."""
    folder = tmp_path_factory.mktemp("trained")
    return functools.cache(
        lambda method: nacre.train(method, "hopper-params", out=folder / method, seed=SEED, **SETTINGS)
    )


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name == "promp" else name for name in METHODS],
)
def whole(request: pytest.FixtureRequest, trained: Callable[[str], nacre.RunDirectory]) -> nacre.RunDirectory:
    return trained(request.param)


def test_a_run_that_was_stopped_continues_exactly(whole: nacre.RunDirectory, tmp_path: Path):
    method = whole.experiment.algorithm_name
    parts = nacre.train(method, "hopper-params", out=tmp_path / "parts", seed=SEED, time_limit=1e-9, **SETTINGS)
    assert len(numbers(parts.path, "eval.csv")) < len(numbers(whole.path, "eval.csv"))
    nacre.resume(parts.path)
    for file in ("eval.csv", "metrics.csv"):
        assert numbers(parts.path, file) == numbers(whole.path, file)
    header, *_, last = numbers(whole.path, "metrics.csv")
    events = b"".join(file.read_bytes() for file in (whole.path / "tensorboard").iterdir())
    for name in ("test/return_episode_1", *(f"update/{name}" for name in header if last and name not in COUNTERS)):
        assert name.encode() in events, name
    assert not undocumented(whole.path)


def test_its_run_is_scored_adapts_and_is_drawn_from_the_command_line(
    whole: nacre.RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = str(whole.path)
    assert cli.main(["evaluate", run, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert np.isfinite(data["score"]) and np.shape(data["returns"]) == (1, 3, 3)
    task = "exponents=" + ",".join(["0"] * nacre.make_family("hopper-params").parameters["exponents"])
    assert cli.main(["adapt", run, "--task", task, "--json"]) == 0
    episodes = json.loads(capsys.readouterr().out)["episodes"]
    is_maesn = whole.experiment.algorithm_name == "maesn"
    assert len(episodes) == 3 and (len(episodes[0]["belief_mean"]) > 0) == is_maesn
    assert cli.main(["report", run, "-o", str(tmp_path / "curves.png")]) == 0


def test_another_run_starts_from_its_networks(whole: nacre.RunDirectory, tmp_path: Path):
    if whole.experiment.algorithm_name == "random":
        pytest.skip("has no networks; tests/runs/test_warm_start.py has its refusal")
    assert_starts_from(whole, tmp_path / "warm", seed=4, **SETTINGS)


def test_products_of_on_policy_learning_ask_for_full_precision():
    """What XLA is asked for, also of gradients: a GPU rounds the factors of a product unasked."""
    policy = rl2.RecurrentPolicy(3, 2, Rl2Settings(hidden_dim=4), key=jax.random.key(0))
    seen, shape = jnp.ones((2, 5, 7)), (2, 5)
    trials = rl2.Trials(seen, jnp.ones((*shape, 2)), jnp.ones(shape, bool), jnp.ones(shape))
    rollouts = on_policy.Rollouts(jnp.ones((*shape, 3)), jnp.ones((*shape, 2)), jnp.ones(shape), jnp.ones(shape, bool))
    programs = {
        "ppo": jax.make_jaxpr(jax.grad(lambda x: rl2.ppo_loss(x, trials, jnp.ones(shape), Rl2Settings())[0]))(policy),
        "baseline": jax.make_jaxpr(lambda x: on_policy.advantages(x, 0.9, 0.9))(rollouts),
        "natural gradient": jax.make_jaxpr(
            lambda x: trust_region.step(
                lambda y: y.sum(), lambda y, task: y, lambda y, task: ((y - x) ** 2).sum() * task, jnp.ones(2), x,
                trust_region.TrustRegion(),
            )
        )(jnp.ones(3)),
    }  # fmt: skip
    for name, program in programs.items():
        products = str(program).count("dot_general[")
        assert products > 0 and str(program).count("Precision.HIGHEST") == 2 * products, name


@pytest.mark.parametrize("method", ["rl2", pytest.param("promp", marks=pytest.mark.slow)])
def test_seeds_that_go_side_by_side_are_those_that_go_alone(method: str, tmp_path: Path):
    settings: dict[str, Any] = dict(preset="smoke", iterations=1)
    alone = nacre.train(method, "point-robot", out=tmp_path / "alone", seed=4, **settings)
    runs = nacre.train_seeds(method, "point-robot", [0, 4], out=tmp_path / "both", **settings)
    both = [np.array([float(row[-1]) for row in numbers(one.path, "eval.csv")[1:]]) for one in (*runs, alone)]
    np.testing.assert_allclose(both[1], both[2], rtol=1e-4, atol=1e-4)
    assert not np.allclose(both[0], both[1])


def test_a_session_knows_which_episode_is_scored_and_acts_within_the_box(
    trained: Callable[[str], nacre.RunDirectory],
):
    """Actions are sampled before the scored episode, which is the last of two that were asked for, not of the run's
    three; the Gaussian has no bounds, what the caller gets has."""
    agent = nacre.load(trained("maml-trpo").path)
    session, sampled = agent.session(0, 2), []
    for _ in range(2):
        actions = []
        for _ in range(20):
            actions.append(session.act(np.full(agent.family.obs_dim, 0.3)))
            session.observe(np.full(agent.family.obs_dim, 0.3), -1.0)
        session.end_episode()
        assert np.abs(actions).max() <= 1.0
        sampled.append((np.ptp(actions, axis=0) > 0).all())
    assert sampled == [True, False]
