"""Configuration: the paper's table, names and values that are refused, and config.json."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from nacre.algorithms import registry
from nacre.algorithms.registry import ALGORITHMS
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, OPTIONAL
from nacre.presets.pearl import PearlSettings
from nacre.presets.settings import ANY_FAMILY
from nacre.runs.experiment import RunOptions, from_json, resolve, to_json

CELLS = [(preset, family) for preset in ALGORITHMS["pearl"].presets for family in FAMILIES]

# The settings of Rakelly et al. (2019) and their reference implementation: field -> value in each domain.
DOMAINS = (
    "cheetah-dir", "cheetah-vel", "ant-dir", "ant-goal", "humanoid-dir", "walker-params", "hopper-params",
    "point-robot", "sparse-point-robot",
)  # fmt: skip
PAPER = {
    "num_train_tasks": (2, 100, 2, 150, 100, 40, 40, 80, 80),
    "num_test_tasks": (2, 30, 2, 30, 30, 10, 10, 20, 20),
    "meta_batch": (4, 16, 4, 10, 16, 10, 10, 16, 16),
    "iterations": (500,) * 9,
    "num_tasks_sample": (5,) * 8 + (10,),
    "num_train_steps_per_iteration": (2000, 2000, 4000, 4000, 4000, 4000, 4000, 1000, 1000),
    "batch_size": (256,) * 9,
    "context_batch_size": (256, 100, 256, 256, 256, 100, 100, 64, 1024),
    "discount": (0.99,) * 8 + (0.90,),
    "reward_scale": (5.0,) * 7 + (100.0, 100.0),
    "kl_weight": (0.1, 0.1, 0.1, 1.0, 0.1, 0.1, 0.1, 0.1, 1.0),
    "use_next_obs_in_context": (False,) * 5 + (True, True, False, False),
    "num_evaluation_repeats": (4, 1, 4, 1, 1, 2, 2, 2, 2),
    "num_evaluation_episodes": (3,) * 8 + (20,),
    "num_exploration_episodes": (2,) * 7 + (1, 5),
    "protocol": ("online-prior",) * 9,
    "exploration": ("prior",) * 9,
    # the same everywhere
    "latent_dim": (5,) * 9,
    "hidden_dim": (300,) * 9,
    "num_hidden_layers": (3,) * 9,
    "encoder_hidden_dim": (200,) * 9,
    "learning_rate": (3e-4,) * 9,
    "learning_rate_decay": (1.0,) * 9,
    "soft_target_tau": (0.005,) * 9,
    "policy_mean_reg_weight": (1e-3,) * 9,
    "policy_std_reg_weight": (1e-3,) * 9,
    "replay_capacity": (1_000_000,) * 9,
    "use_information_bottleneck": (True,) * 9,
    # later than the paper
    "use_prior_factor": (False,) * 9,
    "forgetting": (1.0,) * 9,
    "num_relabelled_tasks": (0,) * 9,
    "resample": ("episode",) * 9,
    "use_value_network": (True,) * 9,
    "num_critics": (2,) * 9,
    "num_step_returns": (1,) * 9,
    "newest_share": (1.0,) * 9,
    "action_noise": ("white",) * 9,
    "normalise_critics": (False,) * 9,
    "normalise_inputs": ("none",) * 9,
    "automatic_temperature": (False,) * 9,
    "precision": ("float32",) * 9,
    # the paper's ablations
    "encoder": ("product",) * 9,
    "context": ("recent",) * 9,
    "test_tasks_from": (0,) * 9,
    "predict_rewards": (False,) * 9,
    "free_nats": (0.0,) * 9,
    "batch_order": ("transitions",) * 9,
}
# Collections, which the reference counts in environment steps and nacre in episodes.
PAPER_STEPS = {
    "num_initial_episodes": (2000,) * 7 + (200, 200),
    "num_straight_episodes": (0,) * 9,
    "num_prior_episodes": (1000, 400, 400, 400, 400, 400, 400, 200, 100),
    "num_posterior_episodes": (0,) * 8 + (900,),
    "num_extra_context_episodes": (0,) * 9,
    "num_extra_rl_episodes": (1000, 600, 600, 600, 600, 600, 600, 200, 0),
}
# Horizon, observation and action dimensions, and the environment steps of the reference's evaluation.
SPACES = {
    "cheetah-dir": (200, 20, 6, 600),
    "cheetah-vel": (200, 20, 6, 600),
    "ant-dir": (200, 27, 8, 600),
    "ant-goal": (200, 113, 8, 600),
    "humanoid-dir": (200, 376, 17, 600),
    "walker-params": (200, 17, 6, 600),
    "hopper-params": (200, 11, 3, 600),
    "point-robot": (20, 2, 2, 60),
    "sparse-point-robot": (20, 2, 2, 400),
}


def refusal(*names: str, **fields: Any) -> str:
    """The one sentence with which `resolve` refuses."""
    with pytest.raises(NacreError) as raised:
        resolve(*names, **fields)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ----------------------------------------------------------------------------------------------------------------------
# Presets


@pytest.mark.parametrize("family", DOMAINS)
def test_the_paper_preset_is_the_papers_table(family: str) -> None:
    chosen, domain = resolve("pearl", family, "paper"), DOMAINS.index(family)
    settings = dataclasses.asdict(chosen.settings)
    for field, steps in PAPER_STEPS.items():
        assert settings.pop(field) * chosen.family.horizon == steps[domain], field
    assert settings == {field: values[domain] for field, values in PAPER.items()}


@pytest.mark.parametrize("family", SPACES)
def test_a_trial_of_the_paper_preset_has_as_many_steps_as_the_references_evaluation(family: str) -> None:
    horizon, obs_dim, action_dim, evaluation_steps = SPACES[family]
    chosen = resolve("pearl", family, "paper")
    assert (chosen.family.horizon, chosen.family.obs_dim, chosen.family.action_dim) == (horizon, obs_dim, action_dim)
    assert chosen.settings.num_evaluation_episodes * horizon == evaluation_steps


def test_every_family_has_a_paper_and_a_smoke_preset() -> None:
    for preset in ("paper", "smoke"):
        assert set(ALGORITHMS["pearl"].presets[preset]) - {ANY_FAMILY} == set(FAMILIES) | set(OPTIONAL)


@pytest.mark.parametrize(("preset", "family"), CELLS)
def test_every_preset_of_every_family_constructs(preset: str, family: str) -> None:
    chosen = resolve("pearl", family, preset)
    assert (chosen.algorithm_name, chosen.preset, chosen.family.name) == ("pearl", preset, family)
    assert chosen.settings.num_exploration_episodes < chosen.settings.num_evaluation_episodes


def test_paper_is_the_preset_when_none_is_named() -> None:
    assert resolve("pearl", "cheetah-vel") == resolve("pearl", "cheetah-vel", "paper")


def test_fields_of_settings_family_and_run_share_one_namespace() -> None:
    chosen = resolve("pearl", "sparse-point-robot", "smoke", latent_dim=3, goal_radius=0.8, seed=7)
    assert (chosen.settings.latent_dim, chosen.family.goal_radius, chosen.options.seed) == (3, 0.8, 7)
    unchanged = resolve("pearl", "sparse-point-robot", "smoke")
    assert dataclasses.replace(chosen.settings, latent_dim=5) == unchanged.settings


def test_no_field_name_has_two_meanings() -> None:
    for family in FAMILIES.values():
        groups = [{field.name for field in dataclasses.fields(group)} for group in (PearlSettings, family, RunOptions)]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_a_whole_number_is_taken_for_a_field_of_numbers() -> None:
    chosen = resolve("pearl", "point-robot", "smoke", reward_scale=5)
    assert chosen == resolve("pearl", "point-robot", "smoke", reward_scale=5.0)
    assert isinstance(chosen.settings.reward_scale, float)


# ----------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("names", "fields", "kind", "nearest"),
    [
        (("perl", "point-robot"), {}, "algorithm", "pearl"),
        (("pearl", "cheeta-vel"), {}, "family", "cheetah-vel"),
        (("pearl", "sparse-point"), {}, "family", "sparse-point-robot"),
        (("pearl", "cheetah-vel", "papr"), {}, "preset", "paper"),
        (("pearl", "cheetah-vel"), {"latent_dimension": 3}, "field", "latent_dim"),
        (("pearl", "sparse-point-robot"), {"goal_radios": 0.8}, "field", "goal_radius"),
        (("pearl", "cheetah-vel"), {"sed": 1}, "field", "seed"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(
    names: tuple[str, ...], fields: dict[str, Any], kind: str, nearest: str
) -> None:
    unknown = next(iter(fields), names[-1] if names[0] == "pearl" else names[0])
    assert refusal(*names, **fields) == f"unknown {kind} '{unknown}'; did you mean '{nearest}'?"


def test_a_name_like_no_other_is_answered_with_all_there_are() -> None:
    assert refusal("pearl", "zzz") == f"unknown family 'zzz'; choose one of: {', '.join(sorted(FAMILIES))}."


def test_fewer_train_tasks_can_keep_the_test_tasks_of_more() -> None:
    papers = resolve("pearl", "cheetah-vel", "paper").draw_tasks()
    fast = resolve("pearl", "cheetah-vel", "fast", num_train_tasks=50, test_tasks_from=100).draw_tasks()
    np.testing.assert_array_equal(fast.test["velocity"], papers.test["velocity"])
    np.testing.assert_array_equal(fast.train["velocity"], papers.train["velocity"][:50])
    assert refusal("pearl", "cheetah-vel", test_tasks_from=99).startswith("test_tasks_from is 99, so test tasks would")


def test_a_preset_that_a_family_lacks_is_answered_with_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    pearl = ALGORITHMS["pearl"]
    fewer = {**pearl.presets, "fast": {"point-robot": {}}}
    monkeypatch.setitem(registry._BUILT_IN, "pearl", dataclasses.replace(pearl, presets=fewer))
    assert refusal("pearl", "cheetah-vel", "fast") == (
        "pearl has no preset 'fast' for cheetah-vel; choose one of: paper, best, smoke."
    )


def test_an_option_of_another_family_is_unknown() -> None:
    assert refusal("pearl", "point-robot", goal_radius=0.8).startswith("unknown field 'goal_radius'")


NEEDED = (
    "num_train_tasks",
    "num_test_tasks",
    "iterations",
    "num_tasks_sample",
    "num_train_steps_per_iteration",
    "meta_batch",
    "batch_size",
    "context_batch_size",
    "replay_capacity",
    "latent_dim",
    "hidden_dim",
    "num_hidden_layers",
    "encoder_hidden_dim",
    "num_evaluation_episodes",
    "num_evaluation_repeats",
    "num_initial_episodes",
    "num_prior_episodes",
    "reward_scale",
    "learning_rate",
    "soft_target_tau",
    "train_evaluation_interval",
)


@pytest.mark.parametrize("field", NEEDED)
def test_zero_of_what_a_run_cannot_do_without_is_refused_by_name(field: str) -> None:
    sentence = refusal("pearl", "point-robot", "smoke", **{field: 0})
    assert field in sentence
    assert f"--{field.replace('_', '-')}" in sentence


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(PearlSettings)])
def test_a_negative_setting_is_refused_by_name(field: str) -> None:
    assert field in refusal("pearl", "point-robot", "smoke", **{field: -1})


@pytest.mark.parametrize(
    "fields",
    [
        {"latent_dim": 2.5}, {"latent_dim": "5"}, {"latent_dim": None}, {"latent_dim": True}, {"latent_dim": [5]},
        {"learning_rate": "fast"}, {"learning_rate": None}, {"learning_rate": True},
        {"use_next_obs_in_context": 1}, {"use_next_obs_in_context": "yes"},
        {"seed": 0.5}, {"seed": "0"}, {"goal_radius": "0.8"},
        {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"discount": float("nan")},
        {"kl_weight": float("nan")}, {"reward_scale": float("-inf")}, {"goal_radius": float("nan")},
        {"checkpoint_minutes": float("nan")}, {"checkpoint_minutes": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_one_that_is_not_finite_is_refused_by_name(fields: dict[str, Any]) -> None:
    assert next(iter(fields)) in refusal("pearl", "sparse-point-robot", "smoke", **fields)


@pytest.mark.parametrize("value", [3, "2", True, 2.0])
def test_a_number_of_critics_that_is_neither_1_nor_2_is_refused(value: Any) -> None:
    sentence = f"num_critics is {value!r}, but must be 1 or 2; change --num-critics."
    assert refusal("pearl", "point-robot", "smoke", num_critics=value) == sentence


def test_numbers_and_texts_from_numpy_are_taken_for_what_they_are() -> None:
    settings = resolve("pearl", "point-robot", "smoke", num_critics=np.int64(1), precision=np.str_("bfloat16")).settings
    assert (settings.num_critics, settings.precision) == (1, "bfloat16")


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate_decay": 1.5}, {"learning_rate_decay": 0.0},
        {"discount": 1.01}, {"soft_target_tau": 1.5}, {"goal_radius": 0.0}, {"goal_radius": -0.2}, {"goal_radius": 1.5},
        {"seed": -1}, {"task_seed": -1}, {"task_seed": 2**32}, {"checkpoint_minutes": -1.0},
        {"num_train_tasks": 10**6 + 1}, {"num_test_tasks": 10**6 + 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(fields: dict[str, Any]) -> None:
    assert next(iter(fields)) in refusal("pearl", "sparse-point-robot", "smoke", **fields)


def test_a_seed_that_would_repeat_the_run_of_another_seed_is_refused() -> None:
    for seed in (2**32, 2**64):  # a key has 32 bits of seed here: 2**32 would be seed 0 again
        assert "seed" in refusal("pearl", "point-robot", "smoke", seed=seed)


def test_a_trial_that_only_explores_is_refused() -> None:
    sentence = refusal("pearl", "point-robot", "smoke", num_exploration_episodes=3, num_evaluation_episodes=3)
    assert "num_exploration_episodes" in sentence


@pytest.mark.parametrize("fields", [{"num_train_tasks": 3}, {"num_test_tasks": 1}], ids=str)
def test_a_number_of_tasks_that_a_family_does_not_have_is_refused(fields: dict[str, int]) -> None:
    assert "cheetah-dir has 2 tasks" in refusal("pearl", "cheetah-dir", "smoke", **fields)


# ----------------------------------------------------------------------------------------------------------------------
# config.json


@pytest.mark.parametrize(("preset", "family"), CELLS)
def test_config_json_gives_back_exactly_the_experiment(preset: str, family: str) -> None:
    chosen = resolve("pearl", family, preset, seed=3, learning_rate=1.1e-3, kl_weight=1 / 3, checkpoint_minutes=0.1)
    assert from_json(to_json(chosen, {"nacre": "0"})) == chosen


def test_config_json_keeps_the_familys_options_and_says_everything_with_versions() -> None:
    chosen = resolve("pearl", "sparse-point-robot", "smoke", goal_radius=0.8, use_next_obs_in_context=True)
    data = json.loads(to_json(chosen, {"nacre": "1.2.3"}))
    assert set(data["settings"]) == {field.name for field in dataclasses.fields(PearlSettings)}
    assert data["family_options"] == {"goal_radius": 0.8}
    assert set(data["options"]) == {field.name for field in dataclasses.fields(RunOptions)}
    assert data["versions"] == {"nacre": "1.2.3"}
    assert from_json(json.dumps(data)) == chosen


def test_a_field_that_a_configuration_does_not_have_yet_takes_its_default() -> None:
    data = json.loads(to_json(resolve("pearl", "point-robot", "smoke", seed=3), {}))
    del data["settings"]["num_straight_episodes"]
    assert from_json(json.dumps(data)) == resolve("pearl", "point-robot", "smoke", seed=3, num_straight_episodes=0)


@pytest.mark.parametrize("part", ["settings", "family_options", "options"])
def test_a_field_that_this_version_does_not_know_is_refused_by_name(part: str) -> None:
    data = json.loads(to_json(resolve("pearl", "point-robot", "smoke"), {}))
    data[part]["kl_weights"] = 0.1
    with pytest.raises(NacreError, match="kl_weights"):
        from_json(json.dumps(data))


@pytest.mark.parametrize("algorithm", ["pearl", "oracle"])
def test_a_buffer_that_no_episode_fits_into_is_refused(algorithm: str) -> None:
    with pytest.raises(NacreError, match="cheetah-vel has up to 200 transitions; set --replay-capacity"):
        resolve(algorithm, "cheetah-vel", replay_capacity=199)
    assert resolve(algorithm, "cheetah-vel", replay_capacity=200).settings.replay_capacity == 200


def test_config_json_keeps_what_resumed_a_run() -> None:
    chosen = resolve("pearl", "point-robot", "smoke")
    resumed = [{"grad_steps": 10, "nacre": "1.2.4"}]
    text = to_json(chosen, {"nacre": "1.2.3"}, resumed)
    assert json.loads(text)["resumed"] == resumed
    assert from_json(text) == chosen
