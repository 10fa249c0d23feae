"""What a method is to the rest of nacre: the functions that `Algorithm` holds, and the shape of a run's state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nacre.errors import NacreError
from nacre.families.family import Family, TaskSet
from nacre.presets.settings import MethodSettings, Presets

if TYPE_CHECKING:
    import numpy as np

    from nacre.learning.fine_tuning import FineTuning
    from nacre.types import Agent, Belief, Key

Metrics = dict[str, Any]
"""Name -> value after every update of a block, each [update]; names are columns of metrics.csv."""


class RunState(Protocol):
    """All that a run needs to continue: a pytree, a NamedTuple, with at least these four fields.

    Every random number follows from `key` and a counter (`types.stream`), so that a resumed run is the uninterrupted
    run.
    """

    @property
    def key(self) -> Key:
        """The run's key, which never changes."""

    @property
    def env_steps(self) -> np.int64:
        """Environment steps of collection so far; evaluations are not counted."""

    @property
    def grad_steps(self) -> np.int64:
        """Gradient updates so far; numbers the checkpoints."""

    @property
    def meta_iterations(self) -> np.int64:
        """Iterations completed."""


class Init(Protocol):
    """The state before the first environment step."""

    def __call__(self, family: Family, settings: Any, seed: int, /) -> Any: ...


class MetaTrain(Protocol):
    """Continues runs of one or more seeds, side by side, from states with equal counters.

    Yields (states, metrics), a state and a `Metrics` for each run, after every block of updates, until
    `meta_iterations` is `settings.iterations`. It may use up the states that it was given.
    """

    def __call__(
        self, family: Family, settings: Any, tasks: TaskSet, states: Sequence[Any], /
    ) -> Iterator[tuple[list[Any], list[Metrics]]]: ...


class MakeAgent(Protocol):
    """How the method meets a task. Equal arguments must give the same object (`functools.cache`): compiled code goes
    by it."""

    def __call__(self, family: Family, settings: Any, /) -> Agent: ...


class AgentParams(Protocol):
    """What acting needs, out of a run's state."""

    def __call__(self, state: Any, /) -> Any: ...


class HypothesesOf(Protocol):
    """What trials can explore by: hypotheses about tasks out of a state's replay, a pytree of arrays.

    Checkpoints keep it. JAX must be able to trace the function, so that a reader knows the shapes.
    """

    def __call__(self, state: Any, family: Family, settings: Any, /) -> Any: ...


class ExploringParams(Protocol):
    """`AgentParams` with these hypotheses, for trials by these settings, which explore by them."""

    def __call__(self, params: Any, hypotheses: Any, family: Family, settings: Any, /) -> Any: ...


class BeliefOf(Protocol):
    """The belief over the latent task variable, [lane, latent_dim], in an agent's memory."""

    def __call__(self, memory: Any, settings: Any, /) -> Belief: ...


class Exported(NamedTuple):
    """An agent for programs without JAX: deploy/numpy_agents.py acts on it."""

    words: dict[str, Any]  # what JSON can say: the kind of agent (`AGENTS` there), its networks, its numbers
    arrays: dict[str, np.ndarray]  # float32, by the names that `learning.exporting` gives them


class Export(Protocol):
    """The agent of these parameters in words and arrays. Raises NacreError for settings that cannot be exported."""

    def __call__(self, params: Any, family: Family, settings: Any, /) -> Exported: ...


class Frozen(Protocol):
    """The policy in an agent's memory [1, ...], adapted in a trial, as an agent that learns nothing more."""

    def __call__(self, memory: Any, family: Family, settings: Any, /) -> Exported: ...


class MakeFineTuning(Protocol):
    """How the method continues learning in a task online. Cached, as `MakeAgent`."""

    def __call__(self, family: Family, settings: Any, /) -> FineTuning: ...


class Compile(Protocol):
    """Compiles what takes much memory to compile, before `init` takes memory for the state."""

    def __call__(self, family: Family, settings: Any, num_seeds: int, /) -> None: ...


class Transfer(Protocol):
    """`into` with the networks of `source`: what is learnt and holds for any task, without replay, optimiser, counters.

    Both are states of the method, of runs whose settings may differ; the caller compares the sizes.
    """

    def __call__(self, into: Any, source: Any, /) -> Any: ...


def _no_hypotheses(*_: Any) -> Any:
    raise NacreError("this method has no hypotheses about tasks to explore by; set --exploration prior.")


def _not_exported(params: Any, family: Family, settings: Any, /) -> Exported:
    raise NacreError(
        "this method does not say how its agent acts without JAX, so it cannot be exported; give its Algorithm an "
        "`export`, or act with agent.session()."
    )


def adapts_by_gradient(params: Any, family: Family, settings: Any, /) -> Exported:
    """In the place of `Algorithm.export`, for methods that take gradient steps at meta-test: refuses."""
    raise NacreError(
        "this method adapts to a task by gradient steps on its networks, which need JAX; export what it becomes in a "
        "task with --adapted-from 'velocity=1.3', act with agent.session(), or train a method that infers the task, "
        "such as pearl, rl2, maesn or focal."
    )


def _compiles_as_it_goes(family: Family, settings: Any, num_seeds: int, /) -> None:
    """For methods whose compilation takes little memory."""


@dataclass(frozen=True)
class Algorithm:
    """A method of meta-RL, as `nacre.register_algorithm` takes it."""

    settings: type[MethodSettings]
    init: Init
    meta_train: MetaTrain
    make_agent: MakeAgent
    agent_params: AgentParams
    presets: Presets = field(default_factory=lambda: {"paper": {"*": {}}})
    belief: BeliefOf | None = None  # of methods that have one
    believes_at_end: bool = False  # whether the belief takes an episode in when it ends, not at its steps
    needs_task: bool = False  # whether the agent's `begin` reads the task, as an oracle's does
    offline: bool = False  # whether it learns from a data set: `meta_train` takes its logs as a fifth argument
    transfer: Transfer | None = None  # of methods whose runs can start from another run's networks
    hypotheses: HypothesesOf = _no_hypotheses  # of methods whose trials can explore by hypotheses
    exploring_params: ExploringParams = _no_hypotheses  # of these methods too
    critics: AgentParams | None = None  # a state's soft actor-critic, of methods whose critics judge a belief's z
    fine_tuning: MakeFineTuning | None = None  # of methods that can learn from their own episodes in a task
    compile: Compile = _compiles_as_it_goes
    several_devices: bool = False  # whether `meta_train` goes by the devices that its states lie on
    export: Export = _not_exported  # of methods whose agents act without JAX, too
    frozen: Frozen | None = None  # of methods that adapt by gradient steps, once adapted

    @property
    def has_hypotheses(self) -> bool:
        """Whether its trials can explore by hypotheses about tasks."""
        return self.hypotheses is not _no_hypotheses

    def params_for(self, state: Any, family: Family, settings: Any) -> Any:
        """What acting needs in trials such as the settings say."""
        params = self.agent_params(state)
        if not settings.by_hypotheses:
            return params
        return self.exploring_params(params, self.hypotheses(state, family, settings), family, settings)
