"""The shapes that flow from simulator to loss. Axes stand in brackets; leading axes are free unless named."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nacre.errors import NacreError

ArrayLike = jax.Array | np.ndarray
"""A JAX array on the device or a NumPy array on the host: simulators in C speak the one, compiled code the other."""

Key = jax.Array
"""A typed PRNG key. Whoever receives one splits or folds it; no key is used twice. Runs that go side by side have one
each: an array of keys [seed], which `split` and `fold_in` treat alike."""

Tasks = dict[str, np.ndarray]
"""Task parameters by name, each [task, ...]: {"velocity": [task]} or {"goal": [task, 2]}. A task is data."""


MOST_ACTION = 1 + 1e-4
"""The largest size of a number of an action that is taken for one in [-1, 1]: beyond it, it was not rounded."""


def check_actions(what: str, actions: Any) -> None:
    """Raises NacreError for actions that do not lie in [-1, 1]; `what` has them."""
    largest = float(np.abs(actions).max(initial=0.0))
    if largest > MOST_ACTION:
        raise NacreError(
            f"{what} has {largest:.4g}, but actions lie in [-1, 1]; scale them from the robot's own units, or clip "
            "them as it did."
        )


class Transition(NamedTuple):
    """One control step. More leading axes make it an episode, a replay batch or a context."""

    obs: Any  # [..., obs_dim]
    action: Any  # [..., action_dim] as the agent emitted it; the family clips to [-1, 1]
    reward: Any  # [...] what the agent is told (context) and scored on
    training_reward: Any  # [...] what a critic learns from; equals reward except in sparse families
    discount: Any  # [...] 0 where the task terminated, else 1; a time limit is 1
    next_obs: Any  # [..., obs_dim] the true successor, never a reset observation


class Logged(NamedTuple):
    """Logged transitions of a task, with what lies ahead of each in its episode: what offline methods learn from."""

    transition: Transition  # [..., ]
    return_to_go: Any  # [...] discounted sum of training rewards, from this step to the end of the log of its episode
    steps_to_end: Any  # [...] steps from this observation to the last one of the episode, at least 1
    last_obs: Any  # [..., obs_dim] the last observation of the episode
    last_discount: Any  # [...] 0 where the episode ended because the task terminated, else 1 (a time limit)


class Episode(NamedTuple):
    """One episode of every lane, side by side, padded to the family's horizon."""

    transitions: Transition  # [lane, time, ...]
    length: Any  # [lane] number of real transitions; what lies behind them is padding
    success: Any = None  # [lane] of bool: the task was solved at one of its steps; None where the family does not tell
    diverged: Any = None  # [lane] of bool: the physics ended it before a step that is left out; None where it cannot

    def returns(self) -> np.ndarray:
        """Undiscounted sum of `reward` over the real transitions, [lane], float64."""
        reward = np.asarray(self.transitions.reward, dtype=np.float64)
        real = np.arange(reward.shape[1]) < np.asarray(self.length)[:, None]
        return np.where(real, reward, 0.0).sum(axis=1)


class Belief(NamedTuple):
    """A diagonal Gaussian over the latent task variable z: q(z | context)."""

    mean: Float[Array, "*lanes latent_dim"]
    variance: Float[Array, "*lanes latent_dim"]


class Agent(NamedTuple):
    """How any method meets a new task: pure functions of an explicit memory, batched over lanes.

    A trial calls `begin` once, then for each episode `act` and `observe` at every step and `end_episode` at its end.
    """

    begin: Callable[..., Any]  # (params, task, key) -> memory; knows nothing yet, only oracles read task
    act: Callable[..., tuple[Any, Any]]  # (params, memory, obs, key, explore) -> action, memory
    observe: Callable[..., Any]  # (params, memory, transition) -> memory; after every step
    end_episode: Callable[..., Any]  # (params, memory, key) -> memory; after every episode
    explores: Callable[[int, int], bool]  # (episode, scored_episode) -> stochastic actions in this episode?
    absorb: Callable[..., Any] | None = None  # (params, memory, logged [lane, number], key) -> memory; takes logged
    # transitions of the task in before the first episode; None: observes each of them, then ends an episode
    restart: Callable[..., Any] | None = None  # (params, memory, task, key) -> memory; knows nothing again, inside an
    # episode whose task has changed; None: `begin`
    most_steps: int | None = None  # of an episode that its memory holds; later ones change nothing. None: any number


def with_fixed_memory(
    act: Callable[..., Any], begin: Callable[..., Any] = lambda params, task, key: (), *, explores: bool = False
) -> Agent:
    """An agent whose memory stays what `begin` made it: neither transitions nor logs change it.

    `act` (params, memory, obs, key, explore) -> action, [lane, action_dim]; `explores`: in every episode, or in none.
    """
    return Agent(
        begin=begin,
        act=lambda params, memory, obs, key, explore: (act(params, memory, obs, key, explore), memory),
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda index, scored_episode: explores,
        absorb=lambda params, memory, logged, key: memory,
    )


def select(mask: Array, new: Any, old: Any) -> Any:
    """`new` in the lanes where mask [lane] is true, `old` in the others; both are pytrees with leading axis [lane].

    Leaves that `new` takes over from `old` are passed on untouched, so that compiled code does not copy them.
    """

    def of_leaf(n: Any, o: Any) -> Any:
        return o if n is o else jnp.where(mask.reshape(mask.shape + (1,) * (n.ndim - 1)), n, o)

    return jax.tree.map(of_leaf, new, old)


def stacked(trees: Sequence[Any]) -> Any:
    """Equal pytrees as one, each leaf with a new leading axis."""
    return _stacked(list(trees))


@functools.partial(jax.jit, inline=True)
def _stacked(trees: list[Any]) -> Any:
    """One program for all leaves, where it is not a part of another."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstacked(tree: Any, num: int, axis: int = 0) -> list[Any]:
    """The inverse: `num` pytrees, out of one whose leaves have them along `axis`."""
    return [jax.tree.map(lambda x, i=i: jnp.take(x, i, axis), tree) for i in range(num)]


# Compiled, since vmap is slow outside of compiled code.


@functools.partial(jax.jit, static_argnames="num", inline=True)
def split(key: Key, num: int = 2) -> Key:
    """`num` new keys, each of the shape of `key`."""
    return jax.random.split(key, num) if key.ndim == 0 else jax.vmap(lambda k: split(k, num), out_axes=1)(key)


@functools.partial(jax.jit, inline=True)
def fold_in(key: Key, data: Any) -> Key:
    """A new key, of the shape of `key`, that follows from it and a number."""
    return jax.random.fold_in(key, data) if key.ndim == 0 else jax.vmap(lambda k: fold_in(k, data))(key)


STREAMS = ("tasks", "collect", "train", "evaluate")


def stream(key: Key, use: str) -> Key:
    """A run's key for one of its uses. Callers fold in a counter: every random number follows from seed and counter."""
    return jax.random.fold_in(key, STREAMS.index(use))


@functools.partial(jax.jit, static_argnames="use")
def streams(keys: Key, use: str) -> Key:
    """`stream` of each of these keys, [task]."""
    return jax.vmap(lambda key: stream(key, use))(keys)
