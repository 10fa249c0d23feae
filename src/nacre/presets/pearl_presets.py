"""PEARL's presets: for every family the fields that differ from PearlSettings's defaults.

paper: Rakelly et al. 2019 and its reference. fast: most return for wall-clock time on a CPU. smoke: everything that a
run does, as small as it can be.
"""

from __future__ import annotations

_PAPER: dict[str, dict[str, object]] = {
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
    "ant-dir-360": _PAPER["humanoid-dir"],
    "cheetah-vel-wide": _PAPER["cheetah-vel"],
}
_SINCE |= {
    f"{robot}-gravity": _PAPER["walker-params"] | {"num_test_tasks": 20}
    for robot in ("ant", "cheetah", "hopper", "walker", "humanoid")
}
_SINCE |= {
    "cheetah-inversion": _PAPER["walker-params"],
    "reacher-inversion": _PAPER["walker-params"]
    | {"num_prior_episodes": 8, "num_extra_rl_episodes": 12},  # of 50 steps
    "point-wind": _PAPER["point-robot"] | {"use_next_obs_in_context": True},
    "point-robot-half-circle": _PAPER["point-robot"] | {"num_train_tasks": 30, "num_test_tasks": 10},
}
# Meta-World's episodes are 500 steps; after the settings that its paper and garage used for PEARL on it.
_META_WORLD: dict[str, object] = dict(
    num_train_tasks=50, num_test_tasks=50, num_initial_episodes=2, num_tasks_sample=15, num_prior_episodes=2,
    num_extra_rl_episodes=2, context_batch_size=256, reward_scale=10.0, latent_dim=7,
)  # fmt: skip
_SINCE |= {"ml1": _META_WORLD, "ml10": _META_WORLD | {"num_train_tasks": 500}}
_PAPER |= _SINCE

ANY_FAMILY = "*"
"""The row of a preset for families that people have registered: the values that the paper's domains share."""
_PAPER[ANY_FAMILY] = {}

# Chosen for wall-clock on a CPU: small batches and networks, a larger learning rate that falls, critics that bear it
# (normalised, their own slow copies instead of V, learnt temperature), a shorter horizon of credit. One critic takes
# two thirds of the work of two. The encoder sees the next observation. With rewards a fifth of the paper's, its weight
# of the KL would keep the belief at the prior.
_FAST_DEPARTURES: dict[str, object] = dict(
    use_value_network=False, normalise_critics=True, automatic_temperature=True, hidden_dim=256, num_hidden_layers=2,
    encoder_hidden_dim=128, use_next_obs_in_context=True, context_batch_size=128, batch_size=32, kl_weight=0.01,
    reward_scale=1.0, learning_rate=1e-3, learning_rate_decay=0.05, soft_target_tau=0.01,
    num_train_steps_per_iteration=2500,
)  # fmt: skip
# Contexts are about as narrow as a trial's two episodes, and out of all that the task ever had: of the latest two of
# each task alone there are so few that the encoder learns them by heart. The extra steps, for the critics alone, are
# two episodes: the first of a posterior phase is of the prior, so one would not practise the posterior.
_FAST_ROBOT = _FAST_DEPARTURES | dict(
    iterations=30, num_train_steps_per_iteration=3500, num_initial_episodes=2, num_tasks_sample=8, num_prior_episodes=2,
    num_extra_rl_episodes=2, context="collected-windows", meta_batch=8, kl_weight=0.002,
    num_critics=1, discount=0.98, normalise_inputs="all",
)  # fmt: skip
# With two tasks, contexts are drawn as stretches, and the prior is a factor of the belief: from single transitions of
# six episodes the encoder learns to read those that run one way only, and has nothing to say of a trial that ran the
# other way.
_FAST_TWO_WAYS = _FAST_DEPARTURES | dict(
    iterations=80, num_tasks_sample=3, num_prior_episodes=6, num_extra_rl_episodes=2, num_critics=1,
    context="recent-in-order", use_prior_factor=True, discount=0.95,
)  # fmt: skip
_FAST_POINT = _FAST_DEPARTURES | dict(hidden_dim=64, encoder_hidden_dim=64, learning_rate=2e-3, reward_scale=5.0)
_TUNED_FAST: dict[str, dict[str, object]] = {
    # Half of the paper's train tasks, so twice as many episodes of each; its test tasks.
    "cheetah-vel": _FAST_ROBOT | dict(num_train_tasks=50, test_tasks_from=100),
    "cheetah-dir": _FAST_TWO_WAYS,
    # Contexts are as small as a trial's: two episodes of 20 steps.
    "point-robot": _FAST_POINT
    | dict(
        iterations=40,
        num_tasks_sample=20,
        num_prior_episodes=2,
        num_extra_rl_episodes=2,
        num_train_steps_per_iteration=400,
        batch_size=16,
        context_batch_size=40,
        use_prior_factor=True,
        kl_weight=0.001,
        discount=0.9,
    ),
    # Straight paths find rewards for the context. The light KL is for small rewards and one critic. Two latent
    # dimensions: a first guess of the goals on one axis is mostly folded, and in few updates stays so. Hypotheses find
    # more goals than draws from the prior, with the same training.
    "sparse-point-robot": _FAST_POINT
    | dict(
        iterations=75,
        num_initial_episodes=50,
        num_tasks_sample=10,
        num_straight_episodes=30,
        num_prior_episodes=20,
        num_posterior_episodes=0,
        num_extra_rl_episodes=20,
        num_train_steps_per_iteration=500,
        use_next_obs_in_context=False,
        num_critics=1,
        latent_dim=2,
        kl_weight=0.00625,
        soft_target_tau=0.005,
        num_exploration_episodes=15,
        exploration="hypotheses",
    ),
}


# The other robots take the half-cheetahs' settings, not tuned on them, but for ants, and that walkers, hoppers and
# humanoids look farther ahead and need the pessimism of two critics: one promised walkers twice what they got.
_FAST = dict.fromkeys(_PAPER, _FAST_ROBOT) | _TUNED_FAST
_FAST["point-wind"] = _FAST["point-robot-half-circle"] = _TUNED_FAST["point-robot"]
_FAST["ant-dir"] = _FAST_TWO_WAYS
# An ant that runs any way earns more than one that stands still after some 600,000 steps: so more of them.
_FAST |= dict.fromkeys(
    ("ant-dir-360", "ant-gravity", "ant-goal"),
    _FAST_ROBOT | dict(iterations=60, num_tasks_sample=24, discount=0.95),
)
# The rewards of fresh goals: 150 train tasks are few to tell places in the plane apart by.
_FAST["ant-goal"] = _FAST["ant-goal"] | dict(num_relabelled_tasks=8)
for _robot in ("walker", "hopper", "humanoid"):
    _FAST |= {
        family: _FAST_ROBOT | dict(discount=0.99, num_critics=2) for family in _PAPER if family.startswith(_robot)
    }

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
for _family, _settings in _PAPER.items():
    _SMOKE_EPISODES.setdefault(_family, dict(num_initial_episodes=1, num_prior_episodes=1, num_extra_rl_episodes=1))
    if _settings.get("num_train_tasks") != 2:  # forward and backward are both needed
        _SMOKE_EPISODES[_family] |= _FEW_TASKS

_SMOKE_EPISODES["ml10"] |= dict(num_train_tasks=10, num_test_tasks=5)

PRESETS: dict[str, dict[str, dict[str, object]]] = {
    "paper": _PAPER,
    "fast": {family: _PAPER[family] | settings for family, settings in _FAST.items()},
    "smoke": {family: _PAPER[family] | _SMOKE | settings for family, settings in _SMOKE_EPISODES.items()},
}
"""preset -> family -> the fields that differ from PearlSettings's defaults."""

SHARED = ("num_train_tasks", "num_test_tasks", "num_evaluation_episodes", "num_evaluation_repeats")
"""Settings that a family has for all methods: its task set and how it is scored."""


def family_rows(preset: str) -> dict[str, dict[str, object]]:
    """What PEARL's preset says of every family that holds for all methods, so that all are scored on the same tasks.

    Methods that know no `test_tasks_from` train on all tasks before the test tasks.
    """
    rows = {}
    for family, row in PRESETS[preset].items():
        rows[family] = {name: value for name, value in row.items() if name in SHARED}
        if row.get("test_tasks_from"):
            rows[family]["num_train_tasks"] = row["test_tasks_from"]
    return rows
