"""Runs of nacre 0.1.0 continue with today's: a run directory and configurations that it made stand in made-by-0.1.0."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre
from nacre.errors import NacreError
from nacre.families.half_cheetah import CheetahVel
from nacre.families.walker_hopper import WalkerParams
from nacre.runs.experiment import from_json, resolve, to_json
from nacre.runs.migration import SCHEMA, completed, migrated

MADE = Path(__file__).parent / "made-by-0.1.0"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MADE / "pearl", tmp_path / "run"))


def rows(file: Path, **wanted: str) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return [row for row in csv.DictReader(lines) if wanted.items() <= row.items()]


def test_an_old_run_evaluates_to_what_it_did(old_run: Path) -> None:
    before = json.loads((MADE / "evaluate.json").read_text())
    returns, tasks = nacre.load(old_run).evaluate()
    np.testing.assert_allclose(returns, before["returns"], rtol=1e-3)
    assert tasks == before["tasks"]


def test_an_old_run_resumes_as_it_did(old_run: Path) -> None:
    """The third iteration, as nacre 0.1.0 went through it after the same two."""
    nacre.resume(old_run, iterations=3)
    third = rows(old_run / "metrics.csv", grad_steps="30")[0]
    assert (third["env_steps"], third["meta_iterations"]) == ("600", "3")
    expected = {"critic_loss": 25523.9, "kl": 4.34166, "q_target_mean": -105.027, "value_loss": 1.89486}
    for name, value in expected.items():
        np.testing.assert_allclose(float(third[name]), value, rtol=1e-3, err_msg=name)
    scored = [float(row["return"]) for row in rows(old_run / "eval.csv", grad_steps="30", episode="3")]
    np.testing.assert_allclose(scored, [-40.873, -3.39117], rtol=1e-3)
    config = json.loads((old_run / "config.json").read_text())
    assert config["schema"] == SCHEMA and config["versions"]["nacre"] == "0.1.0" and len(config["resumed"]) == 1


LAYERS = {"oracle": 3, "maml-trpo": 2, "promp": 2, "maesn": 2}
"""Hidden layers that the smoke presets had; today's have one."""


@pytest.mark.parametrize("name", ["oracle", "rl2", "maml-trpo", "promp", "maesn", "random"])
def test_an_old_configuration_is_todays_of_the_same_names(name: str) -> None:
    experiment = from_json((MADE / f"{name}.json").read_text())
    deeper = {"num_hidden_layers": LAYERS[name]} if name in LAYERS else {}
    assert experiment == resolve(name, "point-robot", "smoke", **deeper)


BEFORE_THE_RULES: dict[str, dict[str, Any]] = {
    "cheetah-vel": dict(
        num_train_tasks=50,
        test_tasks_from=100,
        num_tasks_sample=8,
        discount=0.98,
        num_relabelled_tasks=0,
        num_step_returns=1,
    ),
    "cheetah-dir": dict(
        num_tasks_sample=3,
        num_step_returns=1,
        normalise_inputs="none",
        num_prior_episodes=6,
        num_extra_rl_episodes=2,
        num_extra_context_episodes=0,
        newest_share=1.0,
        discount=0.95,
        reward_scale=1.0,
        kl_weight=0.01,
    ),
    "sparse-point-robot": dict(
        num_posterior_episodes=0, num_extra_rl_episodes=20, num_exploration_episodes=15, predict_rewards=False
    ),
}
"""What `fast` of a family had, and has no more."""


@pytest.mark.parametrize("family", BEFORE_THE_RULES)
def test_an_old_fast_configuration_is_todays_fast(family: str) -> None:
    """Steps became episodes; source, order and window of contexts became one choice. All explored by the prior, and
    the whole KL counted."""
    old_fast = from_json((MADE / f"pearl-{family}-fast.json").read_text())
    assert old_fast == resolve("pearl", family, "fast", exploration="prior", free_nats=0.0, **BEFORE_THE_RULES[family])
    smoke = resolve("pearl", "cheetah-vel", "smoke", num_hidden_layers=3)
    assert from_json((MADE / "pearl-cheetah.json").read_text()) == smoke


def old(**settings: Any) -> dict[str, Any]:
    return {"algorithm": "pearl", "settings": settings}


def test_steps_become_whole_episodes() -> None:
    """cheetah-vel has 200 steps and no falls: whole episodes were collected until the steps were reached."""
    settings = migrated(old(num_initial_steps=2000, num_steps_prior=300, num_steps_posterior=0), CheetahVel)["settings"]
    assert (settings["num_initial_episodes"], settings["num_prior_episodes"], settings["num_posterior_episodes"]) == (
        10, 2, 0,
    )  # fmt: skip
    with pytest.raises(NacreError, match=r"num_steps_prior 300, no multiple of the 200 steps .* only nacre 0.1.0"):
        migrated(old(num_steps_prior=300), WalkerParams)  # which falls: 300 steps are one and a half episodes


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, "recent"),
        (dict(context_source="collected", context_window=400), "collected-windows"),
        (dict(context_source="collected", context_window=200, num_exploration_episodes=1), "collected-windows"),
        (dict(context_order="trajectories"), "recent-in-order"),
        (dict(context_source="replay"), "replay"),
        (dict(context_source="batch", encoder="recurrent", batch_order="trajectories"), "batch"),
        (dict(context_source="collected", context_window=300), None),
        (dict(context_source="recent", context_window=400), None),
        (dict(context_source="replay", context_order="trajectories"), None),
    ],
)
def test_three_fields_of_the_context_become_one_choice(before: dict[str, Any], now: str | None) -> None:
    if now is None:
        with pytest.raises(NacreError, match=r"context_source .* only nacre 0.1.0 can train"):
            migrated(old(**before), CheetahVel)
    else:
        assert migrated(old(**before), CheetahVel)["settings"]["context"] == now


def test_a_schema_of_the_future_is_refused() -> None:
    with pytest.raises(NacreError, match="its schema is 3"):
        migrated({"schema": 3}, CheetahVel)


def test_a_run_of_a_preset_that_is_gone_keeps_its_settings() -> None:
    resolved = resolve("pearl", "point-robot", "fast", iterations=3)
    before = json.loads(to_json(resolved, {})) | {"preset": "demo"}
    again = from_json(json.dumps(before))
    assert (again.preset, again.settings) == ("demo", resolved.settings)


def test_fields_that_came_later_have_their_defaults() -> None:
    @dataclasses.dataclass(frozen=True)
    class Settings:
        needed: int
        later: tuple[float, float] = (1.0, 2.0)
        made: list[int] = dataclasses.field(default_factory=lambda: [3])

    assert completed({"needed": 1}, Settings) == {"needed": 1, "later": [1.0, 2.0], "made": [3]}
    assert completed({"needed": 1, "later": [0, 5], "stranger": 2}, Settings) == {
        "needed": 1, "later": [0, 5], "made": [3], "stranger": 2
    }  # fmt: skip


def test_a_setting_that_is_gone_is_left_out_where_it_changed_nothing() -> None:
    written = json.loads(to_json(resolve("rl2", "point-robot", "smoke"), {}))
    for value in (False, True):
        written["settings"]["inner_bootstrap"] = value
        if value:
            with pytest.raises(NacreError, match="it has inner_bootstrap, which this version of nacre does not have"):
                from_json(json.dumps(written))
        else:
            assert from_json(json.dumps(written)) == resolve("rl2", "point-robot", "smoke")
