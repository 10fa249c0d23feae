"""Settings of MACAW (Mitchell et al. 2021), and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nacre.presets.checks import check_numbers
from nacre.presets.offline import OfflineSettings, rows
from nacre.presets.protocols import GRADIENT_STEPS, chosen


@dataclass(frozen=True)
class AdaptingSettings(OfflineSettings):
    """What methods share that adapt to a task by steps of gradient descent on logged transitions of it."""

    # Meta-training loop
    iterations: int = 1000
    """Meta-iterations of the whole run, each a number of gradient updates; `resume --iterations` raises it."""
    meta_batch: int = 5
    """Train tasks in one update, drawn with replacement."""

    # Networks
    hidden_dim: int = 100
    """Units in a hidden layer."""
    num_hidden_layers: int = 3
    """Hidden layers of the networks."""
    policy_std: float = 0.2
    """Standard deviation of an action's numbers around the policy's mean; never learnt."""
    learning_rate: float = 1e-4
    """Adam's learning rate of the policy."""

    # Adaptation
    inner_learning_rate: float = 1e-3
    """Learning rate of adaptation; where it is learnt, its start."""

    # Meta-test
    protocol: str = "gradient-steps:1"
    """How the agent meets a task when it is tested: see docs/protocols.md."""

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
    """Whether a layer's weights are generated from a latent vector ('linear'), or are parameters themselves: in layers
    of equal width ('none'), or of the width at which the networks have as many parameters ('none-equal-size'). With
    'bias', the released code's layers without transform, they are parameters, and a part of the bias is generated from
    a latent vector as long as the layer is wide."""
    latent_dim: int = 100
    """Numbers in a layer's latent vector."""

    # Adaptation
    num_inner_steps: int = 1
    """Gradient steps that adapt to a task in meta-training; each on the whole inner batch."""
    inner_batch_size: int = 256
    """Transitions per task that adaptation learns from; `batch_size` more judge the outcome."""
    adapt: Literal["all", "latent"] = "all"
    """What adaptation changes: all parameters, as the released code, or latent vectors only (all, where there are
    none)."""
    learn_inner_learning_rates: bool = True
    """Whether every parameter array has a learning rate of adaptation of its own, which is learnt."""
    rates_learning_rate: float = 1e-3
    """Adam's learning rate of these learning rates and of the advantage head's weight."""
    inner_rows: Literal["disjoint", "contiguous"] = "disjoint"
    """Where a task's batches come from: the inner one uniformly from half of its log, the outer one from the other
    half; or, as in the released code, the inner one from one stretch, the outer one uniformly from all of the log."""
    inner_stride: int = 7
    """With contiguous rows: every how manieth transition of the stretch is taken."""

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
    """Adam's learning rate of the value network."""
    temperature: float = 1.0
    """T: how much an advantage counts, exp(A / T); with `normalise_advantages`, A in standard deviations."""
    normalise_advantages: bool = True
    """Whether a batch's advantages are brought to mean 0 and standard deviation 1 before they become weights."""
    max_weight: float = 20.0
    """Largest weight of an action."""
    advantage_head: bool = True
    """Whether adaptation also regresses the advantage from the policy's features and the action."""
    head_weight: float = 0.01
    """Lambda, the weight of that loss, at the start; it is learnt."""
    head_rectifies_action: bool = False
    """Whether the advantage head sees negative numbers of an action as 0, as in the released code."""
    bootstrap: Literal["masked", "none", "unmasked"] = "masked"
    """What is expected after the last step of an episode: V of its last observation unless the task terminated there,
    nothing, or V always, as in the released code. It counts in advantages and in the outer value loss."""
    inner_bootstrap: bool = False
    """Whether it counts in the inner value loss too."""
    target_share: float = 1.0
    """What V of a last observation is in the outer value loss: this share of the adapted value network's weights, the
    rest the unadapted one's. The released code has 0.1."""
    split_inner_batch: bool = False
    """Whether several steps of adaptation take a part of the logged transitions each, as in the released code, in
    training and when tested, rather than all of them."""
    divide_by_all_tasks: bool = False
    """Whether the outer losses are divided by the number of train tasks, as in the released code, rather than of those
    drawn. Adam all but undoes the difference."""

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

PRESETS: dict[str, dict[str, dict[str, object]]] = {
    "paper": rows(),
    "fast": rows(**FAST),
    "released": rows(**_RELEASED),
    "smoke": rows(**SMOKE_TRANSFORM),
}
"""preset -> family ("*": any) -> the fields that differ from the defaults."""
