"""PEARL's presets `fast` and `best`: rules that derive settings from a family's properties, at two budgets.

fast: the most return in minutes of a CPU core, environment steps as they come. best: the most return from about a
million environment steps, in a quarter of an hour to an hour and a half on two cores. The rules read facts that every
family has, also one that a person has registered: how many numbers an observation and an action have, whether train
and test tasks are the same two, whether the robot must balance or reach a place, whether rewards are sparse, whether
tasks may differ in their dynamics, whether the family says what a transition earns in another task.
"""

from __future__ import annotations

from nacre.families.family import Family, MujocoFamily
from nacre.presets.settings import Row

SMALL = 10
"""A family is small if an observation and an action have fewer numbers than this together."""
SHORT = 50
"""Episodes are short if they have fewer steps than this."""
WIDE = 200
"""Observations are wide if they have more numbers than this."""

# Small batches and networks, a larger learning rate that falls, critics that bear it (normalised, their own slow copies
# instead of V, learnt temperature), a shorter horizon of credit, rewards that reach earlier steps in fewer updates. One
# critic takes 70 % of the operations of two. The encoder sees the next observation, unless observations are wide and
# tasks differ in rewards alone. With rewards a fifth of the paper's, its weight of the KL would keep the belief at the
# prior; where rewards are smaller still, a nat of KL a task costs nothing. Exploring by hypotheses scores better than
# by the prior, or within 4 %, in every family where the same agents were tested with both. Where two tasks never end
# early, a longer horizon gives faster gaits; rewards and KL are scaled along with it. Robots that may fall first learn
# to stand still. Noise that is correlated in time gets them moving (on cheetah-vel it did harm). Robots that must
# balance look farther ahead. Those with wide observations have many joints, and look farthest: a humanoid learns more
# slowly with the horizon that makes a walker fast.
_ALL: dict[str, object] = dict(
    use_value_network=False, normalise_critics=True, automatic_temperature=True, num_hidden_layers=2,
    use_next_obs_in_context=True, context_batch_size=128, batch_size=32, reward_scale=1.0, learning_rate_decay=0.05,
    soft_target_tau=0.01, num_critics=1, discount=0.95, num_step_returns=3, normalise_inputs="all",
    exploration="hypotheses", free_nats=1.0,
)  # fmt: skip
_LARGE: dict[str, object] = dict(hidden_dim=256, encoder_hidden_dim=128, learning_rate=1e-3)
_SMALL: dict[str, object] = dict(hidden_dim=64, encoder_hidden_dim=64, learning_rate=2e-3)
# Contexts are about as narrow as a trial's two episodes, and out of all that the task ever had: of the latest two of
# each task alone there are so few that the encoder learns them by heart. The extra steps, for the critics alone, are
# two episodes: the first of a posterior phase is of the prior, so one would not practise the posterior.
_MANY_TASKS: dict[str, object] = dict(
    meta_batch=8, num_initial_episodes=2, num_prior_episodes=2, num_extra_rl_episodes=2, context="collected-windows",
    kl_weight=0.002,
)  # fmt: skip
# With two tasks, contexts are drawn as stretches, and the prior is a factor of the belief: from single transitions of
# several episodes the encoder learns to read those that run one way only, and has nothing to say of a trial that ran
# the other way. Half of the episodes with z from the prior run the wrong way: the critics see two in nine, since
# without any they may miss how to run in one of the directions. One episode for the encoder alone precedes the seven
# with z from the posterior. Without it, the first of the seven would have z from the prior too. The critics learn from
# the newest part of their data, which recent policies made.
_TWO_TASKS: dict[str, object] = dict(
    meta_batch=4, num_initial_episodes=10, num_prior_episodes=2, num_extra_context_episodes=1, num_extra_rl_episodes=7,
    newest_share=0.3, context="recent-in-order", use_prior_factor=True, kl_weight=0.01,
)  # fmt: skip
# Straight paths find rewards for the context. The encoder also sees episodes of agents that know their task, as in the
# last episodes of a trial: without such episodes the belief leaves a goal that it has found. Two latent dimensions:
# with one, the encoder mostly maps distant goals to the same z, and few updates do not undo it. A belief by predicted
# rewards learns more from a few rewards, and from places without any, than one by the encoder. Contexts of all that a
# task ever had find fewer goals, and so do rewards of fresh tasks. Until rewards are found there is nothing to tell
# apart, and the whole KL counts.
_SPARSE: dict[str, object] = dict(
    num_initial_episodes=50, num_straight_episodes=30, num_prior_episodes=20, num_posterior_episodes=20, latent_dim=2,
    num_extra_rl_episodes=0, num_extra_context_episodes=0, newest_share=1.0,
    use_next_obs_in_context=False, num_exploration_episodes=5, predict_rewards=True, meta_batch=16,
    context="recent", num_relabelled_tasks=0, normalise_inputs="none", num_step_returns=1, kl_weight=0.00625,
    reward_scale=5.0, soft_target_tau=0.005, iterations=75, num_tasks_sample=10, free_nats=0.0,
)  # fmt: skip


def is_small(family: type[Family]) -> bool:
    """Whether small networks do for a family."""
    return family.obs_dim + family.action_dim < SMALL


def must_balance(family: type[Family]) -> bool:
    """Whether its robot must learn not to fall before anything else."""
    return family.can_terminate if family.must_balance is None else family.must_balance


def walks_to_a_place(family: type[Family]) -> bool:
    """Whether its robot is many steps away from a place, of which one step brings it a little nearer."""
    return family.in_plane and family.horizon >= SHORT


def runs_on(family: type[Family]) -> bool:
    """Whether its robot runs to the end of the episode, whatever it does, in one of two tasks."""
    never_ends = not family.can_terminate and not must_balance(family) and family.horizon >= SHORT
    return never_ends and not family.disjoint and not family.sparse


def dynamics_may_differ(family: type[Family]) -> bool:
    """Whether tasks may differ in more than rewards: unless it is a MuJoCo robot whose model no task changes."""
    return not issubclass(family, MujocoFamily) or family.model_parameters is not MujocoFamily.model_parameters


def fast(family: type[Family]) -> Row:
    """Settings for minutes. Collections of 24 tasks, or 12 draws of two, since steps are cheap beside updates; a third
    more updates for eight joints or more, which take longer to move."""
    if is_small(family):
        length: Row = dict(num_train_steps_per_iteration=500, iterations=40, num_tasks_sample=20)
    elif not family.disjoint:
        length = dict(num_train_steps_per_iteration=2500, iterations=80, num_tasks_sample=12)
    else:
        iterations = 40 if family.action_dim >= 8 else 30
        length = dict(num_train_steps_per_iteration=3500, iterations=iterations, num_tasks_sample=24)
    return {**_method(family), **length, **(_SPARSE if family.sparse else {})}


def best(family: type[Family]) -> Row:
    """Settings for up to an hour and a half: batches twice as large, about 250,000 updates, a million steps."""
    if is_small(family):
        length: Row = dict(iterations=300)
    elif not family.disjoint:
        length = dict(iterations=100, num_tasks_sample=5)
    else:
        length = dict(iterations=75, num_tasks_sample=16)
    return {**fast(family), "batch_size": 64, **length}


def _method(family: type[Family]) -> Row:
    """All settings but the length of a run and of its collections."""
    row = _ALL | (_SMALL if is_small(family) else _LARGE) | (_MANY_TASKS if family.disjoint else _TWO_TASKS)
    if family.horizon < SHORT:
        row |= dict(discount=0.9)
    if must_balance(family):
        row |= dict(discount=0.99 if family.obs_dim > WIDE else 0.97, num_critics=2)
    if family.can_terminate:
        row |= dict(action_noise="pink")
    if runs_on(family):
        row |= dict(discount=0.99, reward_scale=0.2, kl_weight=0.001)
    if walks_to_a_place(family):
        row |= dict(num_step_returns=1)
    if family.obs_dim > WIDE and not dynamics_may_differ(family):
        row |= dict(use_next_obs_in_context=False)
    if family.rewards_under is not Family.rewards_under and family.disjoint:
        row |= dict(num_relabelled_tasks=row["meta_batch"])
    return row
