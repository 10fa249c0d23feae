"""Every algorithm by name, as what the runner needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from nacre.algorithms import maesn, maml, oracle, pearl, rl2
from nacre.errors import unknown
from nacre.presets.maesn import PRESETS as MAESN_PRESETS
from nacre.presets.maesn import MaesnConfig
from nacre.presets.maml import PRESETS as GRADIENT_PRESETS
from nacre.presets.maml import MamlTrpoConfig, PrompConfig
from nacre.presets.oracle import PRESETS as ORACLE_PRESETS
from nacre.presets.oracle import OracleConfig
from nacre.presets.pearl import PRESETS, PearlConfig
from nacre.presets.rl2 import PRESETS as RL2_PRESETS
from nacre.presets.rl2 import Rl2Config


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
    belief: Callable[..., Any] | None  # (memory, config) -> Belief [lane, latent_dim], for methods that have one


def _compiles_as_it_goes(family: Any, config: Any, num_seeds: int) -> None:
    """For methods whose compilation takes little memory."""


def _gradient_method(config: type[Any]) -> Algorithm:
    return Algorithm(
        config, GRADIENT_PRESETS, _compiles_as_it_goes, maml.init, maml.meta_train, maml.make_agent,
        maml.agent_params, belief=None,
    )  # fmt: skip


ALGORITHMS: dict[str, Algorithm] = {
    "pearl": Algorithm(
        PearlConfig,
        PRESETS,
        pearl.compile_update,
        pearl.init,
        pearl.meta_train,
        lambda family, config: pearl.make_agent(config),
        pearl.agent_params,
        pearl.belief,
    ),
    "oracle": Algorithm(
        OracleConfig,
        ORACLE_PRESETS,
        _compiles_as_it_goes,
        oracle.init,
        oracle.meta_train,
        oracle.make_agent,
        oracle.agent_params,
        belief=None,
    ),
    "rl2": Algorithm(
        Rl2Config,
        RL2_PRESETS,
        _compiles_as_it_goes,
        rl2.init,
        rl2.meta_train,
        rl2.make_agent,
        rl2.agent_params,
        belief=None,
    ),
    "maml-trpo": _gradient_method(MamlTrpoConfig),
    "promp": _gradient_method(PrompConfig),
    "maesn": Algorithm(
        MaesnConfig,
        MAESN_PRESETS,
        _compiles_as_it_goes,
        maesn.init,
        maesn.meta_train,
        maesn.make_agent,
        maesn.agent_params,
        maesn.belief,
    ),
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
