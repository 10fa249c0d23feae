"""An episode's numbers, before anybody learns from them."""

from __future__ import annotations

import logging

import numpy as np

from nacre.errors import DivergedError
from nacre.families.blame import BrokenContract, short, undeclared_end
from nacre.families.family import Family
from nacre.types import Episode


def check_episode(family: Family, result: Episode) -> None:
    """The environment's numbers, padding aside: a NaN that reached replay would spoil a run without a word.

    Whichever number is the first that is not finite is to blame for the others.
    """
    transitions = result.transitions
    real = np.arange(family.horizon) < np.asarray(result.length)[:, None]
    first = np.asarray(transitions.obs)[:, 0]
    if not np.isfinite(first).all():
        lane = np.flatnonzero(~np.isfinite(first).all(axis=-1))[0]
        raise BrokenContract(
            f"{family.name} returned a first observation that is not finite, {short(first[lane])}, at a reset "
            f"(lane {lane}); mend the environment.",
            "finite numbers",
        )
    _report_divergence(family, result)
    found = []
    for name in ("action", "reward", "training_reward", "next_obs"):
        values = np.asarray(getattr(transitions, name))
        bad = real & ~np.isfinite(values.reshape(*real.shape, -1)).all(axis=-1)
        if bad.any():
            lane, time = np.argwhere(bad)[np.argmin(np.nonzero(bad)[1])]
            found.append((int(time), name, int(lane), values[lane, time]))
    if found:
        time, name, lane, value = min(found, key=lambda fault: fault[0])
        if name == "action":
            raise DivergedError(
                f"the agent's actions in {family.name} are not finite: its networks diverged, in training or in "
                "adaptation; train anew, or adapt by fewer gradient steps."
            )
        raise BrokenContract(
            f"{family.name} returned a {name} that is not finite at step {time + 1} of an episode (lane {lane}): "
            f"{short(value)}; check the environment and the actions that it was sent.",
            "finite numbers",
        )
    if not family.can_terminate:
        ended = real & (np.asarray(transitions.discount) == 0)
        if ended.any():
            raise undeclared_end(family.name, int(np.nonzero(ended)[1].min()) + 1)


def _report_divergence(family: Family, result: Episode) -> None:
    """Tells how many episodes the physics ended. BrokenContract where no episode had a step."""
    if result.diverged is None or not np.asarray(result.diverged).any():
        return
    number, num_lanes = int(np.sum(result.diverged)), len(result.diverged)
    if not np.asarray(result.length).any():
        raise BrokenContract(
            f"the physics of {family.name} diverged at the first step of every episode; check the robot, its time step "
            "and what the task changes of it.",
            "finite numbers",
        )
    logging.getLogger("nacre").warning(
        "%s: the physics diverged in %d of %d episodes, which end before that step", family.name, number, num_lanes
    )
