"""Every algorithm by name, as what the runner needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from nacre.algorithms import pearl
from nacre.errors import unknown
from nacre.presets.pearl import PRESETS, PearlConfig


class Algorithm(NamedTuple):
    """A method of meta-RL. Its state is one pytree with `key`, `env_steps`, `grad_steps` and `meta_iterations`."""

    config: type[Any]
    presets: dict[str, dict[str, dict[str, object]]]
    compile: Callable[..., None]  # (family, config, num_seeds); what takes memory to compile, before `init` takes it
    init: Callable[..., Any]  # (family, config, seed) -> state
    meta_train: Callable[
        ..., Iterator[tuple[Any, Any]]
    ]  # (family, config, tasks, states) -> (states, metrics [update] of each) ...; one state a seed, side by side
    make_agent: Callable[..., Any]  # (config) -> Agent
    agent_params: Callable[..., Any]  # (state) -> params
    belief: Callable[..., Any] | None  # (memory, config) -> Belief [lane, latent_dim], for methods that have one


ALGORITHMS: dict[str, Algorithm] = {
    "pearl": Algorithm(
        PearlConfig,
        PRESETS,
        pearl.compile_update,
        pearl.init,
        pearl.meta_train,
        pearl.make_agent,
        pearl.agent_params,
        pearl.belief,
    ),
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
