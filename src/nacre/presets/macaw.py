"""Settings of MACAW (Mitchell et al. 2021), and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.presets.checks import check_numbers
from nacre.presets.offline import OfflineSettings, rows
from nacre.presets.protocols import GRADIENT_STEPS, chosen
from nacre.presets.settings import Presets


@dataclass(frozen=True)
class AdaptingSettings(OfflineSettings):
    """What methods share that adapt to a task by steps of gradient descent on logged transitions of it."""

    # Meta-training loop
    iterations: int = 1000
    """Meta-iterations of the whole run, each with a number of gradient updates. `resume --iterations` raises it."""
    meta_batch: int = 5
    """Train tasks in one update, drawn with replacement."""

    # Networks
    hidden_dim: int = 100
    """Units in a hidden layer of the networks."""
    num_hidden_layers: int = 3
    """Hidden layers of the networks."""
    policy_std: float = 0.2
    """Standard deviation of actions around the policy's mean. It is constant."""
    learning_rate: float = 1e-4
    """Adam's learning rate for the policy."""

    # Adaptation
    inner_learning_rate: float = 1e-3
    """Learning rate of adaptation, or its initial value if it is learnt."""

    # Meta-test
    protocol: str = "gradient-steps:1"
    """What the agent is given of a task before the scored episode in a test (docs/protocols.md)."""

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=self._may_be_zero(), at_most_one=self._at_most_one())

    def _may_be_zero(self) -> tuple[str, ...]:
        return ("discount", "num_train_tasks", "num_test_tasks")

    def _at_most_one(self) -> tuple[str, ...]:
        return ("discount",)

    @property
    def protocols(self) -> tuple[str, ...]:
        return (GRADIENT_STEPS, *super().protocols)

    @property
    def usual_steps(self) -> int:
        """Gradient steps in protocols that do not say how many."""
        return 1

    def num_weights(self, in_dim: int, out_dim: int) -> int:
        """Weights of a network of dense layers of equal width."""
        return self.hidden_dim * (in_dim + out_dim + (self.num_hidden_layers - 1) * self.hidden_dim)

    @property
    def num_test_steps(self) -> int:
        """Gradient steps on the logged transitions that the agent is given."""
        asked = chosen(self.protocol, self.protocols)
        return asked.steps if asked.name == GRADIENT_STEPS else self.usual_steps


@dataclass(frozen=True)
class TransformSettings(AdaptingSettings):
    """Of methods that learn parameters from which few gradient steps lead to a task's."""

    # Networks
    weight_transform: Literal["linear", "none", "none-equal-size", "bias"] = "linear"
    """How the weights of a layer are made. linear: generated from a latent vector. none: plain parameters, in layers of
    the same width. none-equal-size: plain parameters, in layers so wide that the networks have as many parameters as
    with linear. bias: plain parameters, but a part of the bias is generated from a latent vector as long as the layer
    is wide, as in the released code without transform."""
    latent_dim: int = 100
    """Dimension of a layer's latent vector."""

    # Adaptation
    num_inner_steps: int = 1
    """Gradient steps of adaptation in meta-training, each on the whole inner batch."""
    inner_batch_size: int = 256
    """Transitions per task for adaptation. Another `batch_size` transitions evaluate the adapted networks."""
    adapt: Literal["all", "latent"] = "all"
    """Parameters that adaptation changes: all, as in the released code, or only the latent vectors (all, if there are
    none)."""
    learn_inner_learning_rates: bool = True
    """Learns a separate learning rate of adaptation for every parameter array."""
    rates_learning_rate: float = 1e-3
    """Adam's learning rate for the learning rates of adaptation and for the advantage head's weight."""
    inner_rows: Literal["disjoint", "contiguous"] = "disjoint"
    """How a task's batches are drawn. disjoint: the inner batch uniformly from half of the log, the outer batch from
    the other half. contiguous, as in the released code: the inner batch from one stretch, the outer batch uniformly
    from the whole log."""
    inner_stride: int = 7
    """With contiguous rows: takes every n-th transition of the stretch."""

    @property
    def usual_steps(self) -> int:
        return self.num_inner_steps

    def num_weights(self, in_dim: int, out_dim: int) -> int:
        dense = super().num_weights(in_dim, out_dim)
        return dense * (self.latent_dim + 1) if self.weight_transform == "none-equal-size" else dense

    def num_passes(self, num_inner_steps: int) -> int:
        """How often, in an update, a task's transitions go through a network, forwards and backwards: three times in
        both batches, and twice as often again in the inner one for the second derivative."""
        return 9 * num_inner_steps * self.inner_batch_size + 3 * self.batch_size


@dataclass(frozen=True)
class MacawSettings(TransformSettings):
    """MACAW. The defaults are the paper's losses, with what its released code adds where no family learns without it
    (`normalise_advantages`); other departures of the code are fields, off."""

    # Losses
    value_learning_rate: float = 1e-5
    """Adam's learning rate for the value network."""
    temperature: float = 1.0
    """T in the weight exp(A / T) of an action with advantage A. With `normalise_advantages`, A is in standard
    deviations."""
    normalise_advantages: bool = True
    """Scales the advantages of a batch to mean 0 and standard deviation 1 before they become weights."""
    max_weight: float = 20.0
    """Largest weight of an action."""
    advantage_head: bool = True
    """Adds an advantage head: adaptation also regresses the advantage on the policy's features and the action."""
    head_weight: float = 0.01
    """Initial weight (lambda) of the advantage head's loss. It is learnt."""
    head_rectifies_action: bool = False
    """Sets negative numbers of an action to 0 in the input of the advantage head, as in the released code."""
    bootstrap: Literal["masked", "none", "unmasked"] = "masked"
    """Value that is added after the last step of an episode, in advantages and in the outer value loss. masked: V of
    the last observation, unless the task terminated there. none: 0. unmasked: always V, as in the released code."""
    target_share: float = 1.0
    """Mixes two value networks for V of the last observation in the outer value loss: this share of the adapted
    weights, and the rest of the unadapted weights. The released code has 0.1."""
    split_inner_batch: bool = False
    """Splits the logged transitions among several steps of adaptation, as in the released code, in training and in
    tests. False: each step uses all of them."""
    divide_by_all_tasks: bool = False
    """Divides the outer losses by the number of all train tasks, as in the released code, instead of the number of
    drawn tasks. Adam nearly cancels the difference."""

    def _may_be_zero(self) -> tuple[str, ...]:
        return (*super()._may_be_zero(), "target_share")

    def _at_most_one(self) -> tuple[str, ...]:
        return (*super()._at_most_one(), "target_share")

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        weights = self.num_weights(obs_dim, 1) + self.num_weights(obs_dim, action_dim)
        return 2 * self.meta_batch * self.num_passes(self.num_inner_steps) * weights


FAST: dict[str, object] = dict(iterations=20, num_train_steps_per_iteration=250)
SMOKE: dict[str, object] = dict(
    iterations=2, num_train_steps_per_iteration=2, meta_batch=2, batch_size=8, hidden_dim=8, num_hidden_layers=1,
    num_context_transitions=8,
)  # fmt: skip
SMOKE_TRANSFORM = SMOKE | dict(inner_batch_size=8, latent_dim=4)
_RELEASED: dict[str, object] = dict(
    inner_rows="contiguous", bootstrap="unmasked", target_share=0.1, head_rectifies_action=True,
    divide_by_all_tasks=True, split_inner_batch=True,
)  # fmt: skip

PRESETS: Presets = {
    "paper": rows(),
    "fast": rows(**FAST),
    "released": rows(**_RELEASED),
    "smoke": rows(**SMOKE_TRANSFORM),
}
"""preset -> family ("*": any) -> the fields that differ from the defaults."""
