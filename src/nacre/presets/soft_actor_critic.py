"""Settings of off-policy methods that train a soft actor-critic on many tasks: what PEARL and the oracle share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, Self

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.checks import check_numbers, check_test_tasks
from nacre.presets.settings import MethodSettings


def most_steps(family: Family, num_episodes: int) -> int:
    """The most environment steps that collecting `num_episodes` takes: robots that fall overshoot by part of one."""
    overshoot = family.horizon - 1 if family.can_terminate and num_episodes else 0
    return num_episodes * family.horizon + overshoot


@dataclass(frozen=True)
class SoftActorCriticSettings(MethodSettings):
    """Collection, networks and losses of a soft actor-critic that is conditioned on z. Defaults are PEARL's.

    Collections are counted in episodes. An episode stands for `horizon` environment steps: a robot that falls plays
    more episodes, shorter ones, until it has taken as many steps.
    """

    test_tasks_from: int = 0
    """Place of the first test task in the family's sequence of tasks. To test on the same tasks as a run with more
    train tasks, give that run's number of train tasks. 0: directly after the train tasks."""

    # Training loop
    num_initial_episodes: int = 10
    """Episodes collected in every train task before the first update."""
    num_tasks_sample: int = 5
    """Train tasks drawn (with replacement) for collection in each iteration."""
    num_train_steps_per_iteration: int = 2000
    """Gradient updates after the collection of each iteration."""
    meta_batch: int = 16
    """Train tasks in one update, drawn with replacement."""
    batch_size: int = 256
    """Transitions per task in one update."""
    newest_share: float = 1.0
    """Share of a task's transitions that `batch_size` is drawn from: its newest, and at least as many as one draw of
    the task collects. 1, as in the paper: all. Below 1, critics and policy learn from what the latest policies do (Wang
    and Ross 2019, 1906.04009, do so by degrees)."""
    replay_capacity: int = 1_000_000
    """Transitions that the replay keeps for each task."""
    action_noise: Literal["white", "pink"] = "white"
    """Noise of the policy's actions in collections. white, as in the paper: independent at every step. pink: correlated
    over a step to a hundred, with the same distribution at each (Eberhard et al. 2023, "Pink noise is all you need").
    Where a control step is short, white noise averages out, and a robot that stands keeps standing."""

    # Networks
    hidden_dim: int = 300
    """Units in a hidden layer of policy, Q and V."""
    num_hidden_layers: int = 3
    """Hidden layers of policy, Q and V (and PEARL's encoder)."""
    use_value_network: bool = True
    """True: targets bootstrap from a slow copy of V, as in the paper. False: no V; they bootstrap from the minimum of
    the slow critics at a fresh next action (clipped double Q-learning, Fujimoto et al. 2018)."""
    num_critics: Literal[1, 2] = 2
    """Number of critics. 2: targets and policy use the minimum of two. 1: a single critic without pessimism (enough
    with layer normalisation: Nauman et al. 2024, 2405.16158), for 70 % of the operations. The Bellman error is a
    sum over critics, so with one critic it is half as large relative to the KL."""
    normalise_critics: bool = False
    """Normalises the critics' hidden layers (Ba et al. 2016), which allows a larger learning rate."""
    normalise_inputs: Literal["none", "encoder", "all"] = "none"
    """Scales the inputs of some networks: none, as in the paper; the encoder; or all. Observations, actions and
    rewards get mean 0 and variance 1 over all that the critics learn from. The scales are updated after every
    collection. z is not scaled."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Rounds the inputs of matrix products to float32, tf32 (on NVIDIA GPUs) or bfloat16. Parameters, sums and losses
    stay in float32."""

    # Objective
    discount: float = 0.99
    """Discount factor gamma."""
    num_step_returns: int = 1
    """Rewards that a critic's target sums before it bootstraps: those of a transition and of the next ones in its
    episode. 1, as in the paper: the reward of the transition alone. Above 1, rewards reach earlier transitions in fewer
    updates; later actions come from older policies, and their entropy is left out."""
    reward_scale: float = 5.0
    """Multiplies rewards in the Bellman target. With the temperature fixed at 1, it acts as the inverse temperature."""
    automatic_temperature: bool = False
    """Learns SAC's temperature, starting at 1, so that the policy's entropy stays near -action_dim nats (Haarnoja et
    al. 2018, 1812.05905). False: the temperature is 1."""
    learning_rate: float = 3e-4
    """Adam's learning rate for every network."""
    learning_rate_decay: float = 1.0
    """Multiplies the learning rate by this factor at the last update. The factor falls linearly from 1 at the first. 1,
    as in the paper: a constant learning rate. `resume --iterations` stretches the decay."""
    soft_target_tau: float = 0.005
    """Moves the target of V towards V by this share after each update."""
    policy_mean_reg_weight: float = 1e-3
    """Weight of the mean squared pre-tanh mean in the policy loss."""
    policy_std_reg_weight: float = 1e-3
    """Weight of the mean squared log standard deviation in the policy loss."""

    def __post_init__(self) -> None:
        at_most_one = ("discount", "soft_target_tau", "learning_rate_decay", "newest_share")
        check_numbers(self, may_be_zero=self._may_be_zero(), at_most_one=at_most_one, may_be_anything=("single_task",))
        check_test_tasks(self.test_tasks_from, self.num_train_tasks)
        if self.num_initial_episodes == 0:
            raise NacreError(
                "num_initial_episodes is 0, so the first update has no data; set --num-initial-episodes above 0."
            )

    def _may_be_zero(self) -> tuple[str, ...]:
        """Numbers that may be 0."""
        weights = ("policy_mean_reg_weight", "policy_std_reg_weight")
        return (*weights, "discount", "test_tasks_from", "num_initial_episodes")

    @property
    def num_trained(self) -> int:
        """How many tasks there are to train on."""
        return self.num_train_tasks

    @property
    def episodes_per_draw(self) -> tuple[int, ...]:
        """Episodes of the phases of an iteration's collection, per drawn task."""
        raise NotImplementedError(f"{type(self).__name__} does not say what an iteration collects")

    @property
    def first_test_task(self) -> int:
        return self.test_tasks_from or self.num_train_tasks

    @property
    def predict_rewards(self) -> bool:
        """Whether a network predicts rewards, beside the critics."""
        return False

    @property
    def normalise_transitions(self) -> bool:
        """Whether policy, critics and V get scaled observations and actions."""
        return self.normalise_inputs not in ("none", "encoder")

    @property
    def normalise_task(self) -> bool:
        """Whether they get a scaled z, where z is the task's parameters."""
        return False

    @property
    def encoder_inputs(self) -> tuple[str, ...]:
        """Fields of a transition that the encoder sees, in this order; none where there is no encoder."""
        return ()

    def newest(self, family: Family) -> tuple[float, int]:
        """Out of which of a task's transitions a batch is drawn: this share, the newest, but at least this number."""
        return self.newest_share, self.num_rl_episodes * family.horizon

    @property
    def num_rl_episodes(self) -> int:
        """Episodes per drawn task of a collection that critics and policy learn from."""
        return sum(self.episodes_per_draw)

    def env_steps(self, family: Family) -> int:
        drawn = sum(most_steps(family, number) for number in self.episodes_per_draw)
        num_draws = self.iterations * self.num_tasks_sample
        return self.num_trained * most_steps(family, self.num_initial_episodes) + num_draws * drawn

    @property
    def tasks_shared_out(self) -> int:
        """The tasks of an update."""
        return self.meta_batch

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        """Operations of the matrix products that one update needs: 2mnk for [m, k] x [k, n].

        Forward products of every network that a loss reads; weight gradients of the network that it trains; gradients
        of a layer's input wherever something below is to be trained: not below a first layer, except towards z in the
        critic loss and towards the action in the policy loss. z enters a first layer once per task, not once per
        transition. Element-wise work (ReLU, tanh, Adam) is left out. `task_dim` is the size of z.

        At cheetah-vel's paper sizes 26.7e9 with PEARL's encoder, of which 25.1e9 are 34 products [4096, 300] x
        [300, 300].
        """
        hidden = self.hidden_dim

        def upper(out_dim: int) -> int:
            """Multiplications a row in all layers but the first."""
            return (self.num_hidden_layers - 1) * hidden * hidden + hidden * out_dim

        obs, obs_action, action = obs_dim * hidden, (obs_dim + action_dim) * hidden, action_dim * hidden
        q = self.num_critics
        if self.use_value_network:  # V's target forward; V
            target, value_step, z_target = obs + upper(1), 2 * obs + 3 * upper(1), 1 + 2
        else:  # pi and the slow critics forward
            target, value_step, z_target = (obs + upper(2 * action_dim)) + q * (obs_action + upper(1)), 0, 1 + q
        critic_step = target + q * (2 * obs_action + 3 * upper(1))
        policy_step = (2 * obs + 3 * upper(2 * action_dim)) + q * (obs_action + action + 2 * upper(1))
        # z's share of the first layers: the above; the critics in both losses, pi; forward, weight and z gradients.
        z = (z_target + q * 3 + 2 + q * 1) * task_dim * hidden
        rows = self.meta_batch * self.batch_size
        return 2 * (rows * (critic_step + policy_step + value_step) + self.meta_batch * z)

    def check_family(self, family: Family) -> None:
        super().check_family(family)
        if self.replay_capacity < family.horizon:
            raise NacreError(
                f"replay_capacity is {self.replay_capacity}, but an episode of {family.name} has up to "
                f"{family.horizon} transitions; set --replay-capacity to that or more."
            )
        if self.num_step_returns > family.horizon:
            raise NacreError(
                f"num_step_returns is {self.num_step_returns}, but an episode of {family.name} has at most "
                f"{family.horizon} steps; set --num-step-returns to that or less."
            )

    def shortened(self, iterations: int) -> Self:
        return dataclasses.replace(self, iterations=iterations, num_initial_episodes=1)
