"""Episode, trial, evaluate: the only place where agents and simulators touch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family, JaxFamily, num_tasks, take
from nacre.simulation import jax as jax_lanes
from nacre.simulation.change import RESTARTING, Change, restarted, task_at
from nacre.simulation.episode_check import check_episode
from nacre.simulation.lanes import Lanes, is_compiled, lent_lanes
from nacre.types import Agent, Episode, Key, Logged, Tasks, Transition, fold_in, select, split, stacked


@functools.lru_cache(maxsize=64)
def side_by_side(agent: Agent, num_seeds: int) -> Agent:
    """Agents that learnt apart, as one: params are stacked [seed, ...], and a key is an array of keys [seed].

    The lanes are those of the first agent, then as many of the second, and so on. Each agent acts with its own
    parameters and its own random numbers, which are those that it would draw alone.
    """

    def apart(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(num_seeds, -1, *x.shape[1:]), tree)

    def joined(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def begin(params: Any, task: Any, key: Key) -> Any:
        return joined(jax.vmap(agent.begin)(params, apart(task), key))

    def act(params: Any, memory: Any, obs: Any, key: Key, explore: bool) -> tuple[Any, Any]:
        acting = jax.vmap(functools.partial(agent.act, explore=explore))
        return joined(acting(params, apart(memory), apart(obs), key))

    def observe(params: Any, memory: Any, transition: Any) -> Any:
        return joined(jax.vmap(agent.observe)(params, apart(memory), apart(transition)))

    def end_episode(params: Any, memory: Any, key: Key) -> Any:
        return joined(jax.vmap(agent.end_episode)(params, apart(memory), key))

    def take_in(params: Any, memory: Any, logged: Any, key: Key) -> Any:
        return joined(jax.vmap(functools.partial(_absorbed, agent))(params, apart(memory), apart(logged), key))

    def restart(params: Any, memory: Any, task: Any, key: Key) -> Any:
        begins_anew = functools.partial(restarted, agent)
        return joined(jax.vmap(begins_anew)(params, apart(memory), apart(task), key))

    return Agent(begin, act, observe, end_episode, agent.explores, take_in, restart)


def episode(
    family: Family, agent: Agent, params: Any, memory: Any, task: Tasks, key: Key, *, explore: bool,
    change: Change | None = None,
) -> tuple[Any, Episode]:  # fmt: skip
    """One episode in every lane: lane i acts with lane i of `memory` in task i. Returns (memory after it, episode).

    `change`: the tasks change in its midst. With agents side by side `key` is an array of keys [seed]; else one key.

    Raises NacreError when the environment returns a number that is not finite, or ends an episode undeclared.
    """
    if is_compiled(family):
        new = None if change is None else (change.at, change.task)
        restart = change is not None and change.restart
        memory, result = _compiled_episode(
            family, agent, params, memory, task, key, new, explore=explore, restart=restart
        )
    else:
        memory, result = _stepped_episode(family, agent, params, memory, task, key, change, explore=explore)
    check_episode(family, result)
    return memory, result


def play(
    family: Family, agent: Agent, params: Any, tasks: Tasks, keys: Key, num_episodes: int, *, explore: bool
) -> Episode:
    """`num_episodes` episodes of every policy in its task, side by side, by agents that remember nothing: params, tasks
    and keys are [policy, ...].

    Lanes are those of the first policy, then of the second, and so on; all arrays on the host.
    """
    number = num_tasks(tasks)
    lanes = take(tasks, np.repeat(np.arange(number), num_episodes))
    _, played = episode(family, side_by_side(agent, number), params, (), lanes, keys, explore=explore)
    return jax.tree.map(np.asarray, played)


@functools.partial(jax.jit, static_argnames=("family", "agent", "explore", "restart"))
def _compiled_episode(
    family: JaxFamily, agent: Agent, params: Any, memory: Any, task: Any, key: Key, new: tuple[Any, Any] | None,
    *, explore: bool, restart: bool,
) -> tuple[Any, Episode]:  # fmt: skip
    reset_key, act_key = split(key)
    num_lanes = num_tasks(task)
    state, obs = jax_lanes.reset(family, num_lanes, reset_key)

    def control_step(carry: Any, time: jax.Array) -> tuple[Any, tuple[Transition, jax.Array]]:
        state, obs, alive, memory = carry
        now = task_at(time, task, new)
        if new is not None and restart:
            anew = restarted(agent, params, memory, now, fold_in(act_key, RESTARTING))
            memory = jax.tree.map(lambda old, fresh: jnp.where(time == new[0], fresh, old), memory, anew)
        action, acted = agent.act(params, memory, obs, fold_in(act_key, time), explore)
        result = jax_lanes.step(family, state, action, now)
        discount = 1.0 - result.terminated
        transition = Transition(obs, action, result.reward, result.training_reward, discount, result.obs)
        memory = select(alive, agent.observe(params, acted, transition), memory)
        return (result.state, result.obs, alive & ~result.terminated, memory), (transition, alive)

    start = (state, obs, jnp.ones(num_lanes, bool), memory)
    (_, _, _, memory), (transitions, alive) = jax.lax.scan(control_step, start, jnp.arange(family.horizon))
    return memory, Episode(jax.tree.map(lambda x: x.swapaxes(0, 1), transitions), alive.sum(axis=0))


def _stepped_episode(
    family: Family, agent: Agent, params: Any, memory: Any, task: Tasks, key: Key, change: Change | None,
    *, explore: bool,
) -> tuple[Any, Episode]:  # fmt: skip
    """Physics outside compiled code, in lanes that are this episode's while it lasts."""
    with lent_lanes(family, num_tasks(task)) as lanes:
        return _played_in(lanes, family, agent, params, memory, task, key, change, explore=explore)


def _played_in(
    lanes: Lanes, family: Family, agent: Agent, params: Any, memory: Any, task: Tasks, key: Key,
    change: Change | None, *, explore: bool,
) -> tuple[Any, Episode]:  # fmt: skip
    """Observing the last step and choosing the next action is one compiled call."""
    reset_key, act_key = split(key)
    params, memory, act_key = on_host((params, memory, act_key))
    num_lanes = num_tasks(task)
    seeds = np.atleast_2d(np.asarray(jax.random.key_data(reset_key)))
    obs = lanes.reset(task, *map(np.random.default_rng, seeds))
    alive = np.ones(num_lanes, bool)
    alive_at, transitions = [], []
    success: np.ndarray | None = None
    diverged: np.ndarray | None = None
    device_action, memory = act(agent, params, memory, obs, act_key, 0, explore=explore)
    memory = _copied(memory)  # of this episode alone: its steps change it in place
    for time in range(1, family.horizon + 1):
        action = np.asarray(device_action)
        result = lanes.step(action, task, None if alive.all() else np.flatnonzero(alive))
        discount = 1.0 - result.terminated.astype(np.float32)
        transition = Transition(obs, action, result.reward, result.training_reward, discount, result.obs)
        transitions.append(transition)
        took = alive
        if result.diverged is not None:  # that step is left out; the one before it is followed by what a critic expects
            took = alive & ~result.diverged
            diverged = result.diverged | (False if diverged is None else diverged)
        alive_at.append(took)
        if result.success is not None:
            success = (took & result.success) | (False if success is None else success)
        before, obs, alive = took, result.obs, took & ~result.terminated
        if time == family.horizon or not alive.any():
            memory = observe(agent, params, memory, transition, before)
            break
        told = None
        if change is not None and time == change.at:
            task = change.task
            lanes.change(task)
            told = (task, fold_in(act_key, RESTARTING)) if change.restart else None
        all_alive = not family.can_terminate and alive.all()  # a program of its own: falling robots need the other
        mask = None if all_alive else np.stack([before, alive])
        device_action, memory = _observe_act(
            agent, params, memory, transition, mask, obs, act_key, time, told, explore=explore
        )
    padding = family.horizon - len(transitions)
    stacked = Transition(*(_pad_time(np.stack(field, axis=1), padding) for field in zip(*transitions, strict=True)))
    return memory, Episode(stacked, np.stack(alive_at).sum(axis=0), success, diverged)


@jax.jit
def _copied(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def on_host(tree: Any) -> Any:
    """The arrays where physics is and observations come from, on the CPU: what is computed with them is computed there.

    An accelerator would be kept waiting by a call and two transfers a step.
    """
    if jax.default_backend() == "cpu":
        return tree
    try:
        (host, *_) = jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise NacreError("JAX_PLATFORMS leaves the CPU out, where agents act; add it, as in 'cuda,cpu'.") from error
    return jax.device_put(tree, host)


def _pad_time(x: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))


# An agent's functions, compiled. All take the agent first.


@functools.partial(jax.jit, static_argnames=("agent",))
def begin(agent: Agent, params: Any, task: Any, key: Key) -> Any:
    """The memory of an agent that knows nothing, one lane a task."""
    return agent.begin(params, task, key)


@functools.partial(jax.jit, static_argnames=("agent", "explore"))
def act(agent: Agent, params: Any, memory: Any, obs: Any, key: Key, time: Any, *, explore: bool) -> Any:
    """(action, memory) at control step `time` of the episode or session that `key` belongs to."""
    return agent.act(params, memory, obs, fold_in(key, time), explore)


@functools.partial(jax.jit, static_argnames=("agent",))
def observe(agent: Agent, params: Any, memory: Any, transition: Any, alive: Any) -> Any:
    """The memory after one step of the lanes that are alive [lane]; the others keep theirs."""
    return select(alive, agent.observe(params, memory, transition), memory)


class Steps(NamedTuple):
    """`act` and `observe` of an agent, without it, for who takes one step at a time.

    To take networks and memory apart into arrays, in Python, takes a third of a step's time. So parameters and memory
    are lists of arrays here. What a step leaves as it was it does not give: None in its place.
    """

    act: Callable[..., Any]  # (params, memory, obs, key, time, explore) -> (action, memory)
    observe: Callable[..., Any]  # (params, memory, transition, alive) -> memory


@functools.cache
def steps(agent: Agent, of_params: Any, of_memory: Any) -> Steps:
    """Those of an agent whose parameters and memory have this structure, which is what `jax.tree.flatten` says of them
    beside their arrays."""

    def whole(params: list[Any], memory: list[Any]) -> tuple[Any, Any]:
        return jax.tree.unflatten(of_params, params), jax.tree.unflatten(of_memory, memory)

    def changed(before: list[Any], after: Any) -> list[Any]:
        pairs = zip(before, jax.tree.leaves(after), strict=True)
        return [None if new is old else new for old, new in pairs]

    @functools.partial(jax.jit, static_argnames="explore")
    def act(params: Any, memory: Any, obs: Any, key: Key, time: Any, *, explore: bool) -> Any:
        action, after = agent.act(*whole(params, memory), obs, fold_in(key, time), explore)
        return action, changed(memory, after)

    @jax.jit
    def observe(params: Any, memory: Any, transition: Transition, alive: Any) -> Any:
        networks, before = whole(params, memory)
        return changed(memory, select(alive, agent.observe(networks, before, transition), before))

    return Steps(act, observe)


@functools.partial(jax.jit, static_argnames=("agent",))
def end_episode(agent: Agent, params: Any, memory: Any, key: Key) -> Any:
    """The memory with which the next episode begins."""
    return agent.end_episode(params, memory, key)


@functools.partial(jax.jit, static_argnames=("agent",))
def restart(agent: Agent, params: Any, memory: Any, task: Any, key: Key) -> Any:
    """The memory of an agent that knows nothing of the task again, inside an episode."""
    return restarted(agent, params, memory, task, key)


@functools.partial(jax.jit, static_argnames=("agent",))
def absorb(agent: Agent, params: Any, memory: Any, logged: Any, key: Key) -> Any:
    """The memory after logged transitions of the task, `Logged` [lane, number], before the first episode."""
    return _absorbed(agent, params, memory, logged, key)


def _absorbed(agent: Agent, params: Any, memory: Any, logged: Any, key: Key) -> Any:
    """By the agent's own way; else as an episode of these transitions would have been."""
    if agent.absorb is not None:
        return agent.absorb(params, memory, logged, key)
    by_time = jax.tree.map(lambda x: jnp.asarray(x).swapaxes(0, 1), logged.transition)
    memory, _ = jax.lax.scan(lambda seen, one: (agent.observe(params, seen, one), None), memory, by_time)
    return agent.end_episode(params, memory, key)


@functools.partial(jax.jit, static_argnames=("agent", "explore"), donate_argnames="memory")
def _observe_act(
    agent: Agent, params: Any, memory: Any, transition: Any, alive: Any, obs: Any, key: Key, time: Any, told: Any,
    *, explore: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """Observes a step, then acts. `alive` [2, lane]: the lanes that took the step, and those that continue; None
    where all did and do. `told`: (task, key) where the agent is told in between that the task has changed, else None.

    The memory given is used up and changed in place: what does not change is not copied, however large (MAML keeps all
    episodes of a trial).
    """
    seen = agent.observe(params, memory, transition)
    memory = seen if alive is None else select(alive[0], seen, memory)
    if told is not None:
        memory = restarted(agent, params, memory, *told)
    action, acted = agent.act(params, memory, obs, fold_in(key, time), explore)
    return action, acted if alive is None else select(alive[1], acted, memory)


class Played(NamedTuple):
    """One episode of a trial, and the agent's memory around it."""

    episode: Episode
    memory_before: Any  # acted in it
    memory_after: Any  # has seen all of it


ABSORBING = 2**31 - 1
"""Folded into a trial's key for what absorbing draws; no episode has this number."""


def trial(
    family: Family, agent: Agent, params: Any, task: Tasks, key: Key, num_episodes: int, logged: Logged | None = None,
    change: Change | None = None, num_after: int = 0,
) -> Iterator[Played]:  # fmt: skip
    """One trial in every lane, from knowing nothing, episode by episode. The last episode is the scored one.

    `logged` [lane, number]: transitions of each lane's task that the agent absorbs before its first episode.
    `change`: in the scored episode the tasks change, and `num_after` further episodes are played in the new ones.
    """
    begin_key, key = split(key)
    memory = begin(agent, params, task, begin_key)
    if logged is not None:
        memory = absorb(agent, params, memory, logged, fold_in(key, ABSORBING))
    for index in range(num_episodes + num_after):
        episode_key, end_key = split(fold_in(key, index))
        explore = agent.explores(index, num_episodes - 1)
        changes = change if index == num_episodes - 1 else None
        after, result = episode(family, agent, params, memory, task, episode_key, explore=explore, change=changes)
        yield Played(result, memory, after)
        if changes is not None:
            task = changes.task
        if index + 1 < num_episodes + num_after:
            memory = end_episode(agent, params, after, end_key)


def evaluate(
    family: Family, tasks: Tasks, agent: Agent, params: Any, key: Key, num_episodes: int, num_repeats: int
) -> np.ndarray:
    """Returns of every episode of `num_repeats` trials in each task, side by side: returns[repeat, task, episode].

    Scores and plots are functions of it.
    """
    return evaluate_side_by_side(family, tasks, agent, [params], key[None], num_episodes, num_repeats)[0].returns


class Evaluation(NamedTuple):
    """What trials came to, episode by episode."""

    returns: np.ndarray  # [repeat, task, episode]
    success: np.ndarray | None = None  # [repeat, task, episode] of bool, where the family tells
    context_transitions: np.ndarray | None = None  # [repeat, task] transitions of the task that the agent had seen
    # before the scored episode, logged ones included


def score_success(success: np.ndarray) -> float:
    """The share of trials whose last episode solved the task."""
    return float(success[:, :, -1].mean())


def evaluate_side_by_side(
    family: Family, tasks: Tasks, agent: Agent, params: Sequence[Any], key: Key, num_episodes: int, num_repeats: int,
    logged: Logged | None = None,
) -> list[Evaluation]:  # fmt: skip
    """The evaluations of several agents of one kind at once, one each; a key each.

    `logged` [seed * repeat * task, number]: what each of them absorbs before its trial (`contexts.draw`).
    """
    num_seeds, each = len(params), num_tasks(tasks)
    lanes = take(tasks, np.tile(np.arange(each), num_seeds * num_repeats))
    if num_seeds == 1:
        played = trial(family, agent, params[0], lanes, key[0], num_episodes, logged)
    else:
        played = trial(family, side_by_side(agent, num_seeds), stacked(params), lanes, key, num_episodes, logged)
    episodes = [(one.episode.returns(), np.asarray(one.episode.length), one.episode.success) for one in played]

    def of_seeds(by_episode: Any) -> np.ndarray:
        return np.stack(by_episode, axis=-1).reshape(num_seeds, num_repeats, each, num_episodes)

    returns, lengths, success = zip(*episodes, strict=True)
    absorbed = 0 if logged is None else logged.transition.reward.shape[1]
    seen = absorbed + of_seeds(lengths)[..., :-1].sum(axis=-1)
    solved = [None] * num_seeds if success[0] is None else of_seeds(success)
    return [Evaluation(*own) for own in zip(of_seeds(returns), solved, seen, strict=True)]


def score(returns: np.ndarray) -> float:
    """The paper's score: the mean over repeats and tasks of the last episode's return."""
    return float(returns[:, :, -1].mean())
