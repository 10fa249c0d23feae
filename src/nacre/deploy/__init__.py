"""Trained agents at work. `nacre.deploy.load` makes a session of a bundle that `nacre export` wrote, with NumPy alone:

    session = nacre.deploy.load("policy")
    action = session.act(obs)
    session.observe(next_obs, reward)
    session.end_episode()

The rest of this package needs JAX. Use it by `nacre.load`: see `nacre.TrainedAgent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nacre.deploy import numpy_bundle, numpy_session
from nacre.deploy.numpy_session import Transitions
from nacre.errors import NacreError

__all__ = ["BundleError", "NumpySession", "Transitions", "load"]


class BundleError(NacreError, numpy_bundle.SessionError):
    """What is wrong with a bundle, with what its session was given, or with a saved session. Also a ValueError."""


class NumpySession(numpy_session.Session):
    """A trial of an exported agent, one step at a time, as `nacre.Session`: act, observe, ... end_episode, act, ..."""

    error = BundleError


def read_bundle(folder: str | Path) -> numpy_bundle.Bundle:
    """The bundle in a folder, checked. Raises BundleError, a NacreError, where it is damaged or of another version."""
    try:
        return numpy_bundle.read_bundle(folder)
    except numpy_bundle.SessionError as error:
        raise BundleError(str(error)) from error


def load(
    folder: str | Path, seed: int = 0, task: str | Mapping[str, Any] | None = None,
    guards: Mapping[str, Any] | None = None,
) -> NumpySession:  # fmt: skip
    """A session of the bundle in a folder, at the beginning of a trial; `task`, as in 'velocity=1.3', is for the
    oracle, which is told it. `guards`, as in {"observation": "hold"}: how to react to values outside the
    limits (docs/export.md).

    Raises BundleError, a NacreError, for a bundle that is damaged, changed or of another version.
    """
    return NumpySession(read_bundle(folder), seed, task, guards)
