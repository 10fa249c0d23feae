"""The training loop of off-policy methods (Algorithm 1 of PEARL's paper): collect, then blocks of gradient updates.

A method gives a `Procedure`: who collects what, what an update learns from, and the update.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from nacre.families.family import Family
from nacre.learning import collection, devices, soft_actor_critic
from nacre.learning.collection import Buffers, Phases, PosteriorZ
from nacre.learning.replay import Replay
from nacre.learning.soft_actor_critic import Metrics, Networks, Noise, Optimisers
from nacre.presets.soft_actor_critic import SoftActorCriticSettings
from nacre.types import Agent, Key, Tasks, stacked, stream, unstacked

UPDATES_PER_CALL = 50
"""Updates in a block: few enough to show progress and stop soon, enough that Python costs nothing."""


class State(NamedTuple):
    """All that a run needs to continue. Every random number follows from `key` and a counter."""

    networks: Networks
    optimisers: Optimisers
    rl_buffer: Replay  # the critics' data: everything, unless episodes are for the encoder alone
    context_buffer: Replay | None  # the encoder's data: each task's latest collection, or all; None without an encoder
    key: Key
    env_steps: np.int64  # initial collection included, evaluation excluded
    grad_steps: np.int64
    meta_iterations: np.int64  # completed


def fresh_state(
    networks: Networks, optimisers: Optimisers, rl_buffer: Replay, context_buffer: Replay | None, key: Key
) -> State:
    """The state before the first environment step."""
    zero = np.int64(0)
    return State(networks, optimisers, rl_buffer, context_buffer, key, zero, zero, zero)


Draw = Callable[[Any, Key], Any]
"""(data, key) -> (batch, context, noise) that one update of one run learns from."""
Learn = Callable[[Any, Any], tuple[Any, Metrics]]
"""((networks, optimisers), drawn) -> ((networks, optimisers), metrics)."""


def transfer(into: State, source: State) -> State:
    """`into` with what `source` has learnt."""
    return into._replace(networks=source.networks)


class Procedure(NamedTuple):
    """What a method adds to the loop. Equal functions must be the same objects at every call, or code compiles anew."""

    agent: Agent  # that collects
    params: Callable[[State], Any]  # what it acts with
    posterior_z: PosteriorZ | None  # where posterior phases have their z from
    keep_all_context: bool
    num_tasks: int  # that are trained on
    initial: Phases  # of every task, before the first update
    collection: Phases  # of every drawn task, in every iteration
    data: Callable[[State], Any]  # that `draw` draws from
    draw: Draw
    learn: Learn


def meta_train(
    family: Family, config: SoftActorCriticSettings, tasks: Tasks, states: Sequence[State], procedure: Procedure
) -> Iterator[tuple[list[State], list[Metrics]]]:
    """Continues the runs of one or more seeds, side by side, from states with equal numbers of updates.

    Yields (states, metrics [update] of each) after every block of updates. An iteration is complete when
    `meta_iterations` has risen. Asking for the next states uses up the ones before.
    """
    states, p = list(states), procedure
    if states[0].env_steps == 0:
        num_groups = -(-p.num_tasks * sum(p.initial) * family.horizon // collection.INITIAL_STEPS)
        for group in np.array_split(np.arange(p.num_tasks), num_groups):
            states = collect(family, config, tasks, states, np.tile(group, (len(states), 1)), p.initial, p)
    num_updates = config.num_train_steps_per_iteration
    while states[0].meta_iterations < config.iterations:
        done = int(states[0].grad_steps) - int(states[0].meta_iterations) * num_updates
        if done == 0:
            drawn = np.stack([_draw_tasks(state, config.num_tasks_sample, p.num_tasks) for state in states])
            states = collect(family, config, tasks, states, drawn, p.collection, p)
        size = min(UPDATES_PER_CALL, num_updates - done)
        states, metrics = train(states, p, size)
        if done + size == num_updates:
            states = [state._replace(meta_iterations=state.meta_iterations + 1) for state in states]
        yield states, metrics


def _draw_tasks(state: State, num: int, num_tasks: int) -> np.ndarray:
    """The train tasks that the next iteration collects in, [draw]."""
    key = jax.random.fold_in(stream(state.key, "tasks"), int(state.meta_iterations))
    return np.asarray(jax.random.randint(key, (num,), 0, num_tasks))


def collect(
    family: Family, config: SoftActorCriticSettings, tasks: Tasks, states: Sequence[State], drawn: np.ndarray,
    phases: Phases, procedure: Procedure,
) -> list[State]:  # fmt: skip
    """Collects for the drawn tasks [seed, draw] of every run; networks that scale their inputs are scaled anew."""
    keys = [jax.random.fold_in(stream(state.key, "collect"), int(state.env_steps)) for state in states]
    params = [procedure.params(state) for state in states]
    if devices.mesh_of(params) is not None:
        params = jax.device_get(params)  # all runs play side by side, on one device
    buffers, env_steps = collection.collect(
        family, procedure.agent, procedure.posterior_z, params, tasks,
        [Buffers(state.rl_buffer, state.context_buffer) for state in states], drawn, phases, jnp.stack(keys),
        keep_all_context=procedure.keep_all_context,
    )  # fmt: skip
    return [
        state._replace(
            networks=soft_actor_critic.rescaled(state.networks, both.rl, family.obs_dim, config),
            rl_buffer=both.rl, context_buffer=both.context, env_steps=state.env_steps + steps,
        )
        for state, both, steps in zip(states, buffers, env_steps, strict=True)
    ]  # fmt: skip


def train(states: Sequence[State], procedure: Procedure, num_updates: int) -> tuple[list[State], list[Metrics]]:
    """`num_updates` updates of every run in one compiled scan, on the devices where they lie. Metrics are [update]."""
    given = learning(states, procedure, int(states[0].grad_steps), num_updates)
    mesh = devices.mesh_of([state.networks for state in states])
    if mesh is not None and mesh.axis_names == (devices.SEEDS,):
        learners, metrics = (devices.parted(x, mesh) for x in groups_block(**joined_learning(given, mesh), mesh=mesh))
    else:
        learners, metrics = block(**given, mesh=mesh)
    after = [
        state._replace(networks=networks, optimisers=optimisers, grad_steps=state.grad_steps + num_updates)
        for state, (networks, optimisers) in zip(states, learners, strict=True)
    ]
    return after, metrics


def compile_block(init: Callable[[], State], procedure: Procedure, num_seeds: int, num_updates: int) -> None:
    """Compiles a whole block of updates, before the buffers are made, so that memory does not hold both at once."""
    states = [jax.eval_shape(init)] * num_seeds
    num_updates = min(UPDATES_PER_CALL, num_updates)
    given = learning(states, procedure, 0, num_updates)
    block.lower(**given, mesh=None).compile()


def learning(states: Sequence[State], procedure: Procedure, first: int, num_updates: int) -> dict[str, Any]:
    """What a block of updates takes of the states."""
    return {
        "learners": [(state.networks, state.optimisers) for state in states], "keys": [state.key for state in states],
        "data": [procedure.data(state) for state in states], "draw": procedure.draw, "learn": procedure.learn,
        "first": np.int32(first), "num_updates": num_updates,
    }  # fmt: skip


def joined_learning(given: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Learners, data and keys of runs on several devices, joined as `groups_block` takes them."""
    each = len(given["keys"]) // mesh.size
    keys = [jnp.stack(given["keys"][of_device::each]) for of_device in range(each)]
    parts = {name: devices.joined(given[name], mesh) for name in ("learners", "data")}
    return given | parts | {"keys": keys}


@functools.partial(jax.jit, static_argnames=("draw", "learn", "num_updates", "mesh"), donate_argnames="learners")
def block(
    *, learners: list[Any], data: list[Any], keys: list[Key], first: Any, draw: Draw, learn: Learn, num_updates: int,
    mesh: Mesh | None = None,
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """(learners, metrics [update] of each) after `num_updates` updates, of which the first has number `first`.

    The learners of all seeds are one, with a leading axis; what each learns from is drawn from its own data, with its
    own key. The learners given are used up. With a mesh, the tasks of every update are shared out over its devices.
    """
    num_seeds = len(learners)

    def body(carry: Any, number: jax.Array) -> tuple[Any, Any]:
        draws = stacked(
            [draw(own, jax.random.fold_in(stream(key, "train"), number)) for own, key in zip(data, keys, strict=True)]
        )
        return jax.vmap(learn)(carry, draws if mesh is None else devices.tasks_shared_out(draws, mesh))

    numbers = first + jnp.arange(num_updates, dtype=jnp.int32)
    after, metrics = jax.lax.scan(body, stacked(learners), numbers)
    if mesh is not None:
        after, metrics = devices.on_all((after, metrics), mesh)
    return unstacked(after, num_seeds), unstacked(metrics, num_seeds, axis=1)


@functools.partial(jax.jit, static_argnames=("draw", "learn", "num_updates", "mesh"), donate_argnames="learners")
def groups_block(
    *, learners: list[Any], data: list[Any], keys: list[Key], first: Any, draw: Draw, learn: Learn, num_updates: int,
    mesh: Mesh,
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """A `block` on every device, of the runs that lie there. Devices tell each other nothing.

    Learners, data and keys are `devices.joined`, and so is what comes out.
    """

    def on_device(learners: list[Any], data: list[Any], keys: list[Key], first: Any) -> tuple[list[Any], list[Any]]:
        own = {"learners": devices.without_axes(learners), "data": devices.without_axes(data)}
        after, metrics = block(
            **own, keys=[key[0] for key in keys], first=first, draw=draw, learn=learn, num_updates=num_updates
        )
        return devices.with_axes(after), metrics

    each = PartitionSpec(devices.SEEDS)
    of_all = jax.shard_map(
        on_device, mesh=mesh, in_specs=(each, each, each, PartitionSpec()), out_specs=each, check_vma=False
    )
    result: tuple[list[Any], list[Any]] = of_all(learners, data, keys, first)
    return result


def learner(config: Any, objective: soft_actor_critic.Objective) -> Learn:
    """The update of a soft actor-critic with this objective, as a block takes it. Cache what this returns."""

    def learn(learner: tuple[Networks, Optimisers], drawn: Any) -> tuple[tuple[Networks, Optimisers], Metrics]:
        batch, context, noise = drawn
        networks, optimisers, metrics = soft_actor_critic.update(*learner, batch, context, noise, config, objective)
        return (networks, optimisers), metrics

    return learn


def draw_noise(key: Key, actions: tuple[int, ...], z_dim: int, config: SoftActorCriticSettings) -> Noise:
    """The noise of an update whose batch has actions of this shape, [task, batch, action_dim], in one call."""
    shapes = [(config.meta_batch, z_dim), actions] + ([] if config.use_value_network else [actions])
    sizes = [math.prod(shape) for shape in shapes]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return Noise(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))
