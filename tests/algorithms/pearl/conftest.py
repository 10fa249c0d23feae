"""Networks and collections that the tests of PEARL share; none of them changes one."""

from __future__ import annotations

import numpy as np
import pytest
from pearl_parts import (
    DRAWN,
    FAMILY,
    PHASES,
    SMALL,
    Collected,
    collect,
    collect_recorded,
    fresh_networks,
    louder,
    sure_encoder,
    with_encoder,
)

from nacre.algorithms import pearl
from nacre.learning import soft_actor_critic
from nacre.learning.collection import Phases


@pytest.fixture(scope="session")
def networks() -> soft_actor_critic.Networks:
    fresh = fresh_networks(SMALL, seed=0)
    return fresh._replace(encoder=louder(fresh.encoder), critics=tuple(louder(critic) for critic in fresh.critics))


@pytest.fixture(scope="session")
def params(networks) -> pearl.Params:
    return pearl.Params(networks.encoder, networks.policy)


@pytest.fixture(scope="session")
def initial() -> pearl.State:
    """After the initial collection; its encoder is sure that z is 0.7."""
    state = pearl.init(FAMILY, SMALL, seed=0)
    state = with_encoder(state, sure_encoder(state.networks.encoder, 0.7))
    return collect(state, np.arange(3), Phases(prior=1))


@pytest.fixture(scope="session")
def collected(initial) -> Collected:
    return collect_recorded(initial, SMALL, DRAWN, PHASES)
