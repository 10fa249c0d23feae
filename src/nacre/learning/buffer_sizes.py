"""How much PEARL's replay holds: of a task, and of all together."""

from __future__ import annotations

from typing import NamedTuple

from nacre.families.family import Family
from nacre.learning import collection
from nacre.learning.collection import Phases
from nacre.presets.pearl import PearlSettings
from nacre.presets.soft_actor_critic import most_steps


class BufferSize(NamedTuple):
    """Transitions that a run's replay can hold."""

    capacity: int  # of one task
    total: int  # of all tasks together


def buffer_sizes(family: Family, config: PearlSettings) -> tuple[BufferSize, BufferSize]:
    """How large the RL buffer and the context buffer of a whole run are."""
    num_draws = config.iterations * config.num_tasks_sample
    unseen = most_steps(family, config.num_extra_context_episodes)  # by the critics
    rl = BufferSize(config.replay_capacity, config.env_steps(family) - num_draws * unseen)
    initial = collection.collected_as_context(family, initial_phases(config))
    drawn = collection.collected_as_context(family, Phases(*config.episodes_per_draw))
    if config.keeps_all_context:
        total = config.num_train_tasks * initial + num_draws * drawn
        return rl, BufferSize(config.replay_capacity, total)
    latest = max(initial, drawn)
    return rl, BufferSize(latest, config.num_train_tasks * latest)


def initial_phases(config: PearlSettings) -> Phases:
    """The collection in every train task before the first update."""
    number = config.num_initial_episodes
    return Phases(straight=number) if config.num_straight_episodes > 0 else Phases(prior=number)
