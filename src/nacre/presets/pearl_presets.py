"""PEARL's presets: for every family the fields that differ from PearlSettings's defaults.

paper: Rakelly et al. 2019 and its reference. smoke: everything that a run does, as small as it can be. fast and best:
presets/rules.py.
"""

from __future__ import annotations

from typing import Literal

from nacre.families.family import Family
from nacre.presets import rules
from nacre.presets.settings import ANY_FAMILY, Presets

PAPER: dict[str, dict[str, object]] = {
    "point-robot": dict(
        num_train_tasks=80, num_test_tasks=20, num_tasks_sample=5, num_prior_episodes=10,
        num_extra_rl_episodes=10, num_train_steps_per_iteration=1000, context_batch_size=64, reward_scale=100.0,
        num_evaluation_episodes=3, num_exploration_episodes=1, num_evaluation_repeats=2,
    ),
    "sparse-point-robot": dict(
        num_train_tasks=80, num_test_tasks=20, num_tasks_sample=10, num_prior_episodes=5,
        num_posterior_episodes=45, num_extra_rl_episodes=0, num_train_steps_per_iteration=1000,
        context_batch_size=1024, discount=0.9, reward_scale=100.0, kl_weight=1.0,
        num_evaluation_episodes=20, num_exploration_episodes=5, num_evaluation_repeats=2,
    ),
    "cheetah-dir": dict(
        num_train_tasks=2, num_test_tasks=2, meta_batch=4, num_prior_episodes=5, num_extra_rl_episodes=5,
        context_batch_size=256, num_evaluation_repeats=4,
    ),
    "cheetah-vel": dict(),
    "ant-dir": dict(
        num_train_tasks=2, num_test_tasks=2, meta_batch=4, num_train_steps_per_iteration=4000, context_batch_size=256,
        num_evaluation_repeats=4,
    ),
    "ant-goal": dict(
        num_train_tasks=150, num_test_tasks=30, meta_batch=10, num_train_steps_per_iteration=4000,
        context_batch_size=256, kl_weight=1.0,
    ),
    "humanoid-dir": dict(num_train_steps_per_iteration=4000, context_batch_size=256),
    "walker-params": dict(
        num_train_tasks=40, num_test_tasks=10, meta_batch=10, num_train_steps_per_iteration=4000,
        use_next_obs_in_context=True, num_evaluation_repeats=2,
    ),
    "hopper-params": dict(
        num_train_tasks=40, num_test_tasks=10, meta_batch=10, num_train_steps_per_iteration=4000,
        use_next_obs_in_context=True, num_evaluation_repeats=2,
    ),
}  # fmt: skip
# Domains that came after the paper take the settings of its nearest one.
_SINCE: dict[str, dict[str, object]] = {
    "ant-dir-360": PAPER["humanoid-dir"],
    "cheetah-vel-wide": PAPER["cheetah-vel"],
}
_SINCE |= {
    f"{robot}-gravity": PAPER["walker-params"] | {"num_test_tasks": 20}
    for robot in ("ant", "cheetah", "hopper", "walker", "humanoid")
}
_SINCE |= {
    "cheetah-inversion": PAPER["walker-params"],
    "reacher-inversion": PAPER["walker-params"] | {"num_prior_episodes": 8, "num_extra_rl_episodes": 12},  # of 50 steps
    "point-wind": PAPER["point-robot"] | {"use_next_obs_in_context": True},
    "point-robot-half-circle": PAPER["point-robot"] | {"num_train_tasks": 30, "num_test_tasks": 10},
}
# Meta-World's episodes are 500 steps; after the settings that its paper and garage used for PEARL on it.
_META_WORLD: dict[str, object] = dict(
    num_train_tasks=50, num_test_tasks=50, num_initial_episodes=2, num_tasks_sample=15, num_prior_episodes=2,
    num_extra_rl_episodes=2, context_batch_size=256, reward_scale=10.0, latent_dim=7,
)  # fmt: skip
_SINCE |= {"ml1": _META_WORLD, "ml10": _META_WORLD | {"num_train_tasks": 500}}
PAPER |= _SINCE

PAPER[ANY_FAMILY] = {}  # the values that the paper's domains share

# Everything a run does, as small as it can be: for tests and a first look at an installation. It does not learn.
_SMOKE: dict[str, object] = dict(
    iterations=2, num_train_steps_per_iteration=10, num_tasks_sample=2, meta_batch=2, batch_size=16,
    context_batch_size=16, hidden_dim=32, encoder_hidden_dim=32, num_hidden_layers=1, num_evaluation_repeats=1,
)  # fmt: skip
_FEW_TASKS: dict[str, object] = dict(num_train_tasks=4, num_test_tasks=3)
_SMOKE_EPISODES: dict[str, dict[str, object]] = {
    "point-robot": dict(num_initial_episodes=2, num_prior_episodes=2, num_extra_rl_episodes=2),
    "sparse-point-robot": dict(num_initial_episodes=2, num_prior_episodes=2, num_posterior_episodes=4),
    "point-wind": dict(num_initial_episodes=2, num_prior_episodes=2, num_extra_rl_episodes=2),
    "point-robot-half-circle": dict(num_initial_episodes=2, num_prior_episodes=2, num_extra_rl_episodes=2),
}
for _family, _settings in PAPER.items():
    _SMOKE_EPISODES.setdefault(_family, dict(num_initial_episodes=1, num_prior_episodes=1, num_extra_rl_episodes=1))
    if _settings.get("num_train_tasks") != 2:  # forward and backward are both needed
        _SMOKE_EPISODES[_family] |= _FEW_TASKS

_SMOKE_EPISODES["ml10"] |= dict(num_train_tasks=10, num_test_tasks=5)

SHARED = ("num_train_tasks", "num_test_tasks", "num_evaluation_episodes", "num_evaluation_repeats")
"""Settings that a family has for all methods: its task set and how it is scored."""


def _scored_as_in_paper(family: type[Family]) -> dict[str, object]:
    row = PAPER.get(family.name, {})
    return {name: row[name] for name in (*SHARED, "num_exploration_episodes") if name in row}


def _of_any_family(family: type[Family]) -> dict[str, object]:
    """As in the paper's domains, the encoder sees next observations where tasks may differ in their dynamics."""
    return {"use_next_obs_in_context": True} if rules.dynamics_may_differ(family) else {}


_SMALLEST = {family: PAPER[family] | _SMOKE | settings for family, settings in _SMOKE_EPISODES.items()}
PRESETS: Presets = {
    "paper": {**PAPER, ANY_FAMILY: _of_any_family},
    "fast": {ANY_FAMILY: lambda family: {**_scored_as_in_paper(family), **rules.fast(family)}},
    "best": {ANY_FAMILY: lambda family: {**_scored_as_in_paper(family), **rules.best(family)}},
    "smoke": {**_SMALLEST, ANY_FAMILY: lambda family: {**_of_any_family(family), **_SMALLEST[ANY_FAMILY]}},
}
"""preset -> family -> the fields that differ from PearlSettings's defaults."""


def family_rows(preset: Literal["paper", "smoke"]) -> dict[str, dict[str, object]]:
    """What PEARL's preset says of every family that holds for all methods, so that all are scored on the same tasks."""
    rows = PAPER if preset == "paper" else _SMALLEST
    return {family: {name: row[name] for name in SHARED if name in row} for family, row in rows.items()}
