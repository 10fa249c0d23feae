"""Relabelling: what was collected in a task, with the rewards that a fresh task would have given for it.

nacre's own, off in the paper. Where tasks differ in rewards alone, an episode of an agent that did not know its task is
as good a context of any other task. So the encoder sees ever new tasks, and cannot learn its train tasks by heart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from nacre.families.family import Family, TaskSet, take
from nacre.learning.off_policy import Procedure
from nacre.learning.replay import uniform_index
from nacre.types import Key, Transition

NUM_FRESH = 10_000
"""Fresh tasks of a run, of which an update draws."""


class RelabellingTasks(NamedTuple):
    """Parameters by name, float32."""

    train: Any  # [train task, ...] what the transitions were collected in
    fresh: Any  # [NUM_FRESH, ...] from the family's distribution


def relabelling_tasks(family: Family, tasks: TaskSet) -> RelabellingTasks:
    """The train tasks, and fresh ones that follow from the seed of the task set."""
    fresh = family.sample_tasks(np.random.default_rng([tasks.task_seed, NUM_FRESH]), NUM_FRESH)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), RelabellingTasks(tasks.train, fresh))


def with_relabelling(procedure: Procedure, family: Family, number: int, tasks: TaskSet) -> Procedure:
    """The procedure, whose `draw` finds these tasks behind the data, where it relabels `number` tasks of an update."""
    if number == 0:
        return procedure
    both = relabelling_tasks(family, tasks)
    return procedure._replace(data=lambda state: (procedure.data(state)[0], both))


def relabel(
    family: Family, tasks: RelabellingTasks | None, task: Int[Array, " task"], number: int, key: Key, *drawn: Transition
) -> tuple[Transition, ...]:
    """What was drawn for each task of a meta-batch [task, ...]: of the last `number` with the rewards of fresh tasks.

    All that was drawn for a task is relabelled for the same fresh task.
    """
    if tasks is None:
        return drawn
    was, fresh = take(tasks.train, task[-number:]), take(tasks.fresh, uniform_index(key, (number,), NUM_FRESH))

    def relabelled(transitions: Transition) -> Transition:
        rows = transitions.reward.shape[1:]  # as one axis, which is all that a family has to expect
        last = jax.tree.map(lambda x: x[-number:].reshape(number, -1, *x.shape[1 + len(rows) :]), transitions)
        rewards = jax.vmap(family.rewards_under)(last, was, fresh)
        reward, training_reward = (x.reshape(number, *rows) for x in rewards)
        return transitions._replace(
            reward=transitions.reward.at[-number:].set(reward),
            training_reward=transitions.training_reward.at[-number:].set(training_reward),
        )

    return tuple(relabelled(transitions) for transitions in drawn)
