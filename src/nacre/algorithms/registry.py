"""Every algorithm by name, as what the runner needs of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from nacre.errors import unknown
from nacre.presets import maesn as maesn_settings
from nacre.presets import maml as gradient_settings
from nacre.presets import oracle as oracle_settings
from nacre.presets import pearl as pearl_settings
from nacre.presets import random_policy as random_settings
from nacre.presets import rl2 as rl2_settings


class Algorithm(NamedTuple):
    """A method of meta-RL. Its state is one pytree with `key`, `env_steps`, `grad_steps` and `meta_iterations`."""

    config: type[Any]
    presets: dict[str, dict[str, dict[str, object]]]
    compile: Callable[..., None]  # (family, config, num_seeds); what takes memory to compile, before `init` takes it
    init: Callable[..., Any]  # (family, config, seed) -> state
    meta_train: Callable[
        ..., Iterator[tuple[Any, Any]]
    ]  # (family, config, tasks, states) -> (states, metrics [update] of each) ...; one state a seed, side by side
    make_agent: Callable[..., Any]  # (family, config) -> Agent
    agent_params: Callable[..., Any]  # (state) -> params
    needs_task: bool  # whether its `begin` reads the task
    belief: Callable[..., Any] | None  # (memory, config) -> Belief [lane, latent_dim], for methods that have one


def _compiles_as_it_goes(family: Any, config: Any, num_seeds: int) -> None:
    """For methods whose compilation takes little memory."""


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function of a module of `nacre.algorithms`, which is imported, and JAX with it, at the first call."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(f"nacre.algorithms.{module}"), function)(*args, **kwargs)

    return call


def _algorithm(
    module: str, settings: Any, config: type[Any], *, compile: Callable[..., None] = _compiles_as_it_goes,
    needs_task: bool = False, belief: Callable[..., Any] | None = None,
) -> Algorithm:  # fmt: skip
    """A module of `nacre.algorithms` with the settings of its module of `nacre.presets`."""
    init, meta_train, make_agent, agent_params = (
        _late(module, name) for name in ("init", "meta_train", "make_agent", "agent_params")
    )
    return Algorithm(config, settings.PRESETS, compile, init, meta_train, make_agent, agent_params, needs_task, belief)


_make_pearl_agent = _late("pearl", "make_agent")

ALGORITHMS: dict[str, Algorithm] = {
    "pearl": _algorithm(
        "pearl", pearl_settings, pearl_settings.PearlConfig, compile=_late("pearl", "compile_update"),
        belief=_late("pearl", "belief"),
    )._replace(make_agent=lambda family, config: _make_pearl_agent(config)),
    "rl2": _algorithm("rl2", rl2_settings, rl2_settings.Rl2Config),
    "maml-trpo": _algorithm("maml", gradient_settings, gradient_settings.MamlTrpoConfig),
    "promp": _algorithm("maml", gradient_settings, gradient_settings.PrompConfig),
    "maesn": _algorithm("maesn", maesn_settings, maesn_settings.MaesnConfig, belief=_late("maesn", "belief")),
    "oracle": _algorithm("oracle", oracle_settings, oracle_settings.OracleConfig, needs_task=True),
    "random": _algorithm("random_policy", random_settings, random_settings.RandomConfig),
}  # fmt: skip


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
