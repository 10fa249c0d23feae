"""PEARL's settings: every field with its meaning, and the presets (Rakelly et al. 2019 and its reference)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.errors import NacreError
from nacre.presets.checks import check_numbers, check_test_tasks


@dataclass(frozen=True)
class PearlConfig:
    """PEARL's settings. The defaults are the values that the paper's domains share."""

    # Task set
    num_train_tasks: int = 100
    """Tasks to meta-train on."""
    num_test_tasks: int = 30
    """Held-out tasks that score the run (cheetah-dir tests on its two train tasks)."""
    test_tasks_from: int = 0
    """Number, in the family's sequence of tasks, of the first test task: with fewer train tasks than another run has,
    its number of train tasks gives its test tasks. 0: the test tasks follow the train tasks."""

    # Meta-training loop
    iterations: int = 500
    """Meta-iterations of the whole run; `resume --iterations` raises it."""
    num_initial_steps: int = 2000
    """Environment steps per train task before the first update, z from the prior (or see num_steps_straight)."""
    num_tasks_sample: int = 5
    """Train tasks drawn (with replacement) for collection in each iteration."""
    num_steps_straight: int = 0
    """Steps per drawn task that hold one random action for a whole episode, into both buffers; above 0, the initial
    collection does so too. nacre's own: straight paths reach farther than random walks, so they meet sparse rewards."""
    num_steps_prior: int = 400
    """Steps per drawn task with z from the prior, into both buffers."""
    num_steps_posterior: int = 0
    """Steps per drawn task with z from the posterior, into both buffers."""
    num_extra_rl_steps_posterior: int = 600
    """Steps per drawn task with z from the posterior, into the RL buffer only."""
    num_train_steps_per_iteration: int = 2000
    """Gradient updates after the collection of each iteration."""
    meta_batch: int = 16
    """Train tasks in one update, drawn with replacement."""
    batch_size: int = 256
    """Transitions per task in one update, from the RL buffer."""
    context_batch_size: int = 100
    """Transitions per task that the encoder sees, from the context buffer, with replacement."""
    context_source: Literal["recent", "collected", "replay", "batch"] = "recent"
    """Where the encoder's transitions come from in training. recent: the latest collection of the task. collected: all
    of the task's collections, less the extra steps for the critics. replay: all of its RL buffer ("off-policy" in the
    paper's ablation). batch: the critics' batch itself ("off-policy RL-batch")."""
    context_order: Literal["transitions", "trajectories"] = "transitions"
    """What a context is drawn as, unless it is the critics' batch. transitions: single ones out of all episodes of its
    source, as in the paper. trajectories: in the order of their collection, from a random one on, so that a context is
    as narrow as a trial's: of one or two episodes. A recurrent encoder always takes these."""
    context_window: int = 0
    """How many transitions, collected one after another, single ones are drawn out of, from a random one on. With the
    length of a trial's exploration a context is about as narrow as a trial's (it may have parts of one episode more),
    and there are as many of them as the source is long. 0, as in the paper: all of the source."""
    batch_order: Literal["transitions", "trajectories"] = "transitions"
    """What the critics' batch is drawn as: single transitions, or transitions in the order of their collection."""
    replay_capacity: int = 1_000_000
    """Transitions that the RL buffer of one task keeps; so does the context buffer where it is of all collections."""

    # Networks
    latent_dim: int = 5
    """Dimension of the latent task variable z."""
    hidden_dim: int = 300
    """Units in a hidden layer of policy, Q and V."""
    num_hidden_layers: int = 3
    """Hidden layers of policy, Q, V and encoder."""
    encoder_hidden_dim: int = 200
    """Units in a hidden layer of the context encoder."""
    use_next_obs_in_context: bool = False
    """Whether the encoder sees the next observation (needed where dynamics differ between tasks)."""
    encoder: Literal["product", "recurrent"] = "product"
    """product: one Gaussian factor a transition, whatever their order. recurrent: an LSTM over the context in the order
    of its collection; slower (the paper's ablation)."""
    normalise_inputs: Literal["none", "encoder", "all"] = "none"
    """Which networks see observations, actions and rewards with mean 0 and variance 1 over all that the run has
    collected (taken anew after every collection), instead of as they come: none, as in the paper; the encoder; all."""
    use_information_bottleneck: bool = True
    """True: z ~ q(z | context) with the KL term. False: z is the mean of the encodings, a point estimate without KL."""
    use_prior_factor: bool = False
    """Whether N(0, I) is a factor of the belief. False, as in the paper: what transitions that tell nothing add up to
    depends on how many there are. True: they leave the belief where it was, and an empty context is no special case."""
    use_value_network: bool = True
    """True: critics bootstrap from a slow copy of V, as in the paper. False: from the smallest of the slow critics at
    a fresh next action (clipped double Q-learning, Fujimoto et al. 2018), without V."""
    num_critics: Literal[1, 2] = 2
    """2: targets and policy go by the smaller of two critics. 1: by the one there is, without pessimism (critics with
    layer normalisation need none: Nauman et al. 2024, 2405.16158), for about two thirds of an update's work. The
    Bellman error is a sum over critics: with one it is half as large beside the KL."""
    normalise_critics: bool = False
    """Whether the critics' hidden layers are normalised (Ba et al. 2016), which lets them take larger steps."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """What matrix products round their inputs to: float32, tf32 (on NVIDIA GPUs) or bfloat16. Parameters, sums and
    losses stay in float32."""

    # Objective
    discount: float = 0.99
    """Discount factor gamma."""
    reward_scale: float = 5.0
    """Multiplies rewards in the Bellman target; the inverse of SAC's temperature while that is fixed at 1."""
    automatic_temperature: bool = False
    """False: SAC's temperature is 1. True: it is learnt, from 1, so that the policy's entropy stays near
    -action_dim nats (Haarnoja et al. 2018, 1812.05905)."""
    kl_weight: float = 0.1
    """Weight of KL(q(z | c) || N(0, I)), which is SUMMED over the meta-batch's tasks while the Bellman error is a mean,
    as in the reference: doubling meta_batch doubles the KL's weight."""
    learning_rate: float = 3e-4
    """Adam's step size for every network."""
    learning_rate_decay: float = 1.0
    """What the step size is multiplied by at the last update, along a straight line from 1 at the first. The paper's
    stays; nacre's own. `resume --iterations` stretches the line."""
    soft_target_tau: float = 0.005
    """Share of V that its target takes over after each update."""
    policy_mean_reg_weight: float = 1e-3
    """Weight of the mean squared pre-tanh mean in the actor loss."""
    policy_std_reg_weight: float = 1e-3
    """Weight of the mean squared log standard deviation in the actor loss."""

    # Meta-test
    num_evaluation_episodes: int = 3
    """Episodes of a trial; the last one is scored."""
    num_exploration_episodes: int = 2
    """Episodes of a trial that act on a z from the prior."""
    num_evaluation_repeats: int = 1
    """Independent trials per task in an evaluation."""

    @property
    def keeps_all_context(self) -> bool:
        """Whether the context buffer holds all collections of a task, rather than the latest."""
        return self.context_source == "collected"

    @property
    def context_in_order(self) -> bool:
        """Whether a context is a stretch of transitions as they were collected, rather than single ones."""
        return self.encoder == "recurrent" or self.context_order == "trajectories"

    def __post_init__(self) -> None:
        may_be_zero = {
            "num_initial_steps",
            "num_steps_straight",
            "num_steps_prior",
            "num_steps_posterior",
            "num_extra_rl_steps_posterior",
        }
        may_be_zero |= {"kl_weight", "policy_mean_reg_weight", "policy_std_reg_weight", "discount"}
        may_be_zero |= {"num_exploration_episodes", "context_window", "test_tasks_from"}
        check_numbers(self, may_be_zero=may_be_zero, at_most_one=("discount", "soft_target_tau", "learning_rate_decay"))
        if self.context_in_order and self.context_source == "batch" and self.batch_order == "transitions":
            cause, way_out = "a recurrent encoder needs its context in order", ""
            if self.encoder != "recurrent":
                cause, way_out = "context_order asks for contexts in order", "--context-order transitions or "
            raise NacreError(
                f"{cause}, but the batch that a context is to be (context_source) is of single transitions; "
                f"set {way_out}--batch-order trajectories."
            )
        if self.context_window > 0 and (self.context_in_order or self.context_source == "batch"):
            cause = "a context is the critics' batch" if self.context_source == "batch" else "contexts are in order"
            raise NacreError(
                f"context_window is {self.context_window}, but {cause}, so no single transitions are drawn from a "
                "window; set --context-window 0."
            )
        check_test_tasks(self.test_tasks_from, self.num_train_tasks)
        if self.use_prior_factor and not self.use_information_bottleneck:
            raise NacreError(
                "a point estimate of the task has no prior to be a factor of it; set --no-use-prior-factor, or "
                "--use-information-bottleneck."
            )
        if self.num_exploration_episodes >= self.num_evaluation_episodes:
            raise NacreError(
                f"all {self.num_evaluation_episodes} episodes of a trial explore (num_exploration_episodes is "
                f"{self.num_exploration_episodes}), so none uses the belief; set --num-evaluation-episodes higher."
            )
        if self.num_initial_steps == 0:
            raise NacreError(
                "num_initial_steps is 0, so the first update has no data; set --num-initial-steps above 0."
            )
        if self.num_steps_prior == 0 and self.num_steps_straight == 0:
            raise NacreError(
                "num_steps_prior is 0, so the context of a drawn task stays empty; set --num-steps-prior above 0."
            )


_PAPER: dict[str, dict[str, object]] = {
    "point-robot": dict(
        num_train_tasks=80, num_test_tasks=20, num_initial_steps=200, num_tasks_sample=5, num_steps_prior=200,
        num_extra_rl_steps_posterior=200, num_train_steps_per_iteration=1000, context_batch_size=64, reward_scale=100.0,
        num_evaluation_episodes=3, num_exploration_episodes=1, num_evaluation_repeats=2,
    ),
    "sparse-point-robot": dict(
        num_train_tasks=80, num_test_tasks=20, num_initial_steps=200, num_tasks_sample=10, num_steps_prior=100,
        num_steps_posterior=900, num_extra_rl_steps_posterior=0, num_train_steps_per_iteration=1000,
        context_batch_size=1024, discount=0.9, reward_scale=100.0, kl_weight=1.0,
        num_evaluation_episodes=20, num_exploration_episodes=5, num_evaluation_repeats=2,
    ),
    "cheetah-dir": dict(
        num_train_tasks=2, num_test_tasks=2, meta_batch=4, num_steps_prior=1000, num_extra_rl_steps_posterior=1000,
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
    "reacher-inversion": _PAPER["walker-params"] | {"num_initial_steps": 500},
    "point-wind": _PAPER["point-robot"] | {"use_next_obs_in_context": True},
}
# Meta-World's episodes are 500 steps; after the settings that its paper and garage used for PEARL on it.
_META_WORLD: dict[str, object] = dict(
    num_train_tasks=50, num_test_tasks=50, num_initial_steps=1000, num_tasks_sample=15, num_steps_prior=1000,
    num_extra_rl_steps_posterior=1000, context_batch_size=256, reward_scale=10.0, latent_dim=7,
)  # fmt: skip
_SINCE |= {"ml1": _META_WORLD, "ml10": _META_WORLD | {"num_train_tasks": 500}}
_PAPER |= _SINCE

ANY_FAMILY = "*"
"""The row of a preset for families that people have registered: the values that the paper's domains share."""
_PAPER[ANY_FAMILY] = {}

# The demo's departures from the paper, for a laptop's processor: smaller batches and networks, a larger step size.
_DEMO_DEPARTURES: dict[str, object] = dict(
    batch_size=64, hidden_dim=64, encoder_hidden_dim=64, learning_rate=1e-3, learning_rate_decay=0.1,
    num_train_steps_per_iteration=200,
)  # fmt: skip
_DEMO: dict[str, dict[str, object]] = {
    "point-robot": _DEMO_DEPARTURES | dict(iterations=100),
    # Sparse goals also need straight paths, which find rewards for the context, and a belief that sweeps over the half
    # circle until a goal is found: one latent dimension and a heavier KL.
    "sparse-point-robot": _DEMO_DEPARTURES
    | dict(
        iterations=240,
        num_initial_steps=2000,
        num_tasks_sample=5,
        num_steps_straight=600,
        num_steps_prior=400,
        num_steps_posterior=0,
        num_extra_rl_steps_posterior=400,
        context_batch_size=256,
        latent_dim=1,
        kl_weight=5.0,
        num_exploration_episodes=15,
    ),
}

# Chosen for wall-clock on a processor: small batches and networks, a larger step size that falls, critics that bear it
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
    iterations=30, num_train_steps_per_iteration=3500, num_initial_steps=400, num_tasks_sample=8, num_steps_prior=400,
    num_extra_rl_steps_posterior=400, context_source="collected", context_window=400, meta_batch=8, kl_weight=0.002,
    num_critics=1, discount=0.98, normalise_inputs="all",
)  # fmt: skip
# With two tasks, contexts are drawn as stretches, and the prior is a factor of the belief: from single transitions of
# six episodes the encoder learns to read those that run one way only, and has nothing to say of a trial that ran the
# other way.
_FAST_TWO_WAYS = _FAST_DEPARTURES | dict(
    iterations=80, num_tasks_sample=3, num_steps_prior=1200, num_extra_rl_steps_posterior=400, num_critics=1,
    context_order="trajectories", use_prior_factor=True, discount=0.95,
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
        num_steps_prior=40,
        num_extra_rl_steps_posterior=40,
        num_train_steps_per_iteration=400,
        batch_size=16,
        context_batch_size=40,
        use_prior_factor=True,
        kl_weight=0.001,
        discount=0.9,
    ),
    # What the demo needs besides sizes (see there), with the KL as much lighter as the Bellman error is
    # smaller: a 400th for the rewards, half of that for the one critic. Two latent dimensions: a first guess of the
    # goals on one axis is mostly folded, and in few updates stays so.
    "sparse-point-robot": _FAST_POINT
    | dict(
        iterations=75,
        num_initial_steps=1000,
        num_tasks_sample=10,
        num_steps_straight=600,
        num_steps_prior=400,
        num_steps_posterior=0,
        num_extra_rl_steps_posterior=400,
        num_train_steps_per_iteration=500,
        use_next_obs_in_context=False,
        num_critics=1,
        latent_dim=2,
        kl_weight=0.00625,
        soft_target_tau=0.005,
        num_exploration_episodes=15,
    ),
}


def _two_episodes(steps: int) -> dict[str, object]:
    """Contexts and collections of cheetah-vel's `fast` where an episode has another number of steps than 200."""
    phases = ("num_initial_steps", "num_steps_prior", "num_extra_rl_steps_posterior", "context_window")
    return dict.fromkeys(phases, 2 * steps)


# The other robots take the half-cheetahs' settings, not tuned on them, but for ants, and that walkers, hoppers and
# humanoids look farther ahead and need the pessimism of two critics: one promised walkers twice what they got.
_FAST = dict.fromkeys(_PAPER, _FAST_ROBOT) | _TUNED_FAST
_FAST["point-wind"] = _TUNED_FAST["point-robot"]
_FAST["ant-dir"] = _FAST_TWO_WAYS
_FAST["reacher-inversion"] = _FAST_ROBOT | _two_episodes(50)
_FAST["ml1"] = _FAST["ml10"] = _FAST_ROBOT | _two_episodes(500)
# An ant that runs any way earns more than one that stands still after some 600,000 steps: so more of them.
_FAST |= dict.fromkeys(
    ("ant-dir-360", "ant-gravity", "ant-goal"),
    _FAST_ROBOT | dict(iterations=60, num_tasks_sample=24, discount=0.95),
)
for _robot in ("walker", "hopper", "humanoid"):
    _FAST |= {
        family: _FAST_ROBOT | dict(discount=0.99, num_critics=2) for family in _PAPER if family.startswith(_robot)
    }

# Everything a run does, as small as it can be: for tests and a first look at an installation. It does not learn.
_SMOKE: dict[str, object] = dict(
    iterations=2, num_train_steps_per_iteration=10, num_tasks_sample=2, meta_batch=2, batch_size=16,
    context_batch_size=16, hidden_dim=32, encoder_hidden_dim=32, num_evaluation_repeats=1,
)  # fmt: skip
_FEW_TASKS: dict[str, object] = dict(num_train_tasks=4, num_test_tasks=3)
_SMOKE_STEPS: dict[str, dict[str, object]] = {
    "point-robot": dict(num_initial_steps=40, num_steps_prior=40, num_extra_rl_steps_posterior=40),
    "sparse-point-robot": dict(num_initial_steps=40, num_steps_prior=40, num_steps_posterior=80),
    "point-wind": dict(num_initial_steps=40, num_steps_prior=40, num_extra_rl_steps_posterior=40),
}
for _family, _settings in _PAPER.items():
    _SMOKE_STEPS.setdefault(_family, dict(num_initial_steps=200, num_steps_prior=200, num_extra_rl_steps_posterior=200))
    if _settings.get("num_train_tasks") != 2:  # forward and backward are both needed
        _SMOKE_STEPS[_family] |= _FEW_TASKS

_SMOKE_STEPS["ml10"] |= dict(num_train_tasks=10, num_test_tasks=5)

PRESETS: dict[str, dict[str, dict[str, object]]] = {
    "paper": _PAPER,
    "fast": {family: _PAPER[family] | settings for family, settings in _FAST.items()},
    "demo": {family: _PAPER[family] | settings for family, settings in _DEMO.items()},
    "smoke": {family: _PAPER[family] | _SMOKE | settings for family, settings in _SMOKE_STEPS.items()},
}
"""preset -> family -> the fields that differ from PearlConfig's defaults."""

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
