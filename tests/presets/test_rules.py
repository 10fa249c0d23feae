"""Presets `fast` and `best`: the same rules for every family, read from what it is."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import nacre
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES
from nacre.families.family import Family
from nacre.families.gymnasium import GymnasiumFamily
from nacre.presets import rules
from nacre.presets.settings import MethodSettings, check_row, row_of

BUDGET = {"batch_size", "iterations", "num_tasks_sample"}


class Robot(GymnasiumFamily):
    """A family of somebody's own, of which nacre knows no more than every family says."""

    name: ClassVar[str] = "somebodys-robot"
    obs_dim: ClassVar[int] = 24
    action_dim: ClassVar[int] = 6
    horizon: ClassVar[int] = 100


class Falling(Robot):
    can_terminate: ClassVar[bool] = True


@pytest.mark.parametrize("name", FAMILIES)
def test_best_is_fast_with_a_larger_budget_alone(name: str) -> None:
    fast, best = (nacre.resolve("pearl", name, preset) for preset in ("fast", "best"))
    differing = {field for field, value in vars(fast.settings).items() if value != getattr(best.settings, field)}
    assert {"batch_size", "iterations"} <= differing <= BUDGET
    rows = [vars(one.settings) for one in (fast, best)]
    work = [one["iterations"] * one["num_train_steps_per_iteration"] * one["batch_size"] for one in rows]
    assert work[1] >= 2 * work[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_and_trials_of_fast_are_the_papers(name: str) -> None:
    fast, paper = (nacre.resolve("pearl", name, preset) for preset in ("fast", "paper"))
    for field in ("num_train_tasks", "num_test_tasks", "num_evaluation_episodes", "num_evaluation_repeats"):
        assert getattr(fast.settings, field) == getattr(paper.settings, field), field


def row(family: type[Family], preset: str = "fast") -> dict[str, Any]:
    return dict(row_of(nacre.ALGORITHMS["pearl"].presets[preset], family) or {})


def test_a_family_of_ones_own_has_the_settings_of_nacres_own_that_are_like_it() -> None:
    assert row(Robot) == {key: value for key, value in row(FAMILIES["cheetah-gravity"]).items() if key in row(Robot)}
    assert row(Falling) == {key: value for key, value in row(FAMILIES["walker-params"]).items() if key in row(Falling)}


def test_a_robot_that_must_balance_looks_farther_ahead_with_two_critics() -> None:
    assert {name for name, value in row(Falling).items() if value != row(Robot).get(name)} == {
        "discount",
        "num_critics",
        "action_noise",
    }
    discount = {name: row(family)["discount"] for name, family in FAMILIES.items()}
    assert 0.95 < discount["walker-params"] < discount["humanoid-dir"] == discount["humanoid-gravity"]
    assert rules.must_balance(FAMILIES["humanoid-dir"])
    assert not rules.must_balance(FAMILIES["ant-dir"])  # it may end its episodes, and hardly ever does


def test_collections_of_robots_that_may_fall_have_noise_that_moves_them() -> None:
    pink = {name for name, family in FAMILIES.items() if row(family).get("action_noise") == "pink"}
    assert pink == {name for name, family in FAMILIES.items() if family.can_terminate}
    assert {"ant-dir", "walker-params"} <= pink
    for name in pink:
        assert nacre.resolve("oracle", name, "fast").settings.action_noise == "pink"


def test_a_robot_that_walks_to_a_place_has_targets_of_one_step() -> None:
    one_step = {name for name, family in FAMILIES.items() if row(family)["num_step_returns"] == 1}
    assert one_step == {"ant-goal", "sparse-point-robot"}


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_all_explore_by_hypotheses(preset: str) -> None:
    assert {row(family, preset)["exploration"] for family in (*FAMILIES.values(), Robot)} == {"hypotheses"}


def test_a_robot_that_runs_to_the_end_in_one_of_two_tasks_looks_farther_ahead_with_scaled_rewards() -> None:
    fields = ("discount", "reward_scale", "kl_weight")
    runs_on = {name for name, family in FAMILIES.items() if rules.runs_on(family)}
    assert runs_on == {"cheetah-dir"}
    assert [row(FAMILIES["cheetah-dir"])[field] for field in fields] == [0.99, 0.2, 0.001]
    assert [row(FAMILIES["ant-dir"])[field] for field in fields] == [0.95, 1.0, 0.01]  # it may end its episodes
    oracle, of_pearl = (nacre.resolve(name, "cheetah-dir", "fast").settings for name in ("oracle", "pearl"))
    assert [getattr(oracle, field) for field in fields[:2]] == [getattr(of_pearl, field) for field in fields[:2]]


def test_the_encoder_sees_wide_next_observations_only_where_dynamics_may_differ() -> None:
    blind = {name for name, family in FAMILIES.items() if not row(family)["use_next_obs_in_context"]}
    assert blind == {"humanoid-dir", "sparse-point-robot"}
    assert row(type("Wide", (Robot,), {"obs_dim": 300}))["use_next_obs_in_context"]


def test_rewards_are_told_anew_where_a_family_says_how() -> None:
    told = {name for name, family in FAMILIES.items() if row(family).get("num_relabelled_tasks")}
    assert {"ant-goal"} <= told
    assert not told & {"ant-dir-360", "walker-params", "cheetah-dir"}  # cheetah-dir has no fresh tasks


def test_with_two_tasks_the_critics_learn_mostly_from_agents_that_know_theirs() -> None:
    for name, family in FAMILIES.items():
        settings = nacre.resolve("pearl", name, "fast").settings
        assert (settings.num_extra_context_episodes > 0) == (not family.disjoint), name
        assert (settings.newest_share < 1.0) == (not family.disjoint), name
        if not family.disjoint:
            of_prior = settings.num_prior_episodes + settings.num_straight_episodes
            assert settings.num_extra_rl_episodes > 3 * of_prior, "most of the critics' data are of the posterior"
            assert settings.num_extra_context_episodes == 1, "no more than it takes for all of these to have a belief"
            oracle = nacre.resolve("oracle", name, "fast").settings
            assert oracle.newest_share == settings.newest_share
            assert (
                oracle.num_episodes == of_prior + settings.num_extra_context_episodes + settings.num_extra_rl_episodes
            )
    sparse = row(type("TwoGoals", (Robot,), {"disjoint": False, "sparse": True}))
    assert sparse["num_prior_episodes"] > 0 == sparse["num_extra_context_episodes"] and sparse["newest_share"] == 1.0


def test_on_sparse_goals_the_encoder_sees_agents_that_know_their_task_as_in_the_last_episodes_of_a_trial() -> None:
    sparse = row(FAMILIES["sparse-point-robot"])
    assert sparse["num_posterior_episodes"] > 0 == sparse["num_extra_rl_episodes"]
    oracle = nacre.resolve("oracle", "sparse-point-robot", "fast").settings
    assert oracle.num_episodes == sum(sparse[f"num_{kind}_episodes"] for kind in ("straight", "prior", "posterior"))


def test_a_rule_that_sets_what_the_settings_lack_is_refused() -> None:
    with pytest.raises(NacreError, match="preset 'mine' of 'pearl' sets 'hidden' for point-robot"):
        check_row("pearl", "mine", "point-robot", {"hidden": 3}, MethodSettings)
