"""Protocols of meta-test: what an agent is given of a new task before the episode that is scored.

See docs/protocols.md. Scores by different protocols cannot be compared: they answer different questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from nacre.errors import NacreError, unknown

MOST_STEPS = 9999
GRADIENT_STEPS = "gradient-steps"


class Facts(NamedTuple):
    """What a protocol asks for."""

    logs: Literal["own", "other"] | None = None  # whose logged transitions the agent is given
    explores: bool = False  # whether the agent's own first episodes explore
    re_infers: bool = False  # whether z follows from all that was seen at every step, rather than after every episode
    one_episode: bool = False  # whether a trial has no episode but the scored one


FACTS: dict[str, Facts] = {
    "online-prior": Facts(explores=True),
    "online-np": Facts(explores=True, re_infers=True),
    "offline-own-context": Facts(logs="own"),
    "offline-other-context": Facts(logs="other"),
    "zero-shot": Facts(re_infers=True, one_episode=True),
    GRADIENT_STEPS: Facts(logs="own"),
}
"""Every protocol by its name. In `gradient-steps:K` the K is a number of steps."""


class Protocol(NamedTuple):
    """One protocol, as `parse` reads it."""

    name: str  # of FACTS
    steps: int = 0  # gradient steps, in gradient-steps:K

    def __str__(self) -> str:
        return f"{self.name}:{self.steps}" if self.name == GRADIENT_STEPS else self.name

    @property
    def logs(self) -> Literal["own", "other"] | None:
        """Whose logged transitions of the task the agent is given: its 'own' task's data, or episodes in the task by
        policies that were trained on 'other' tasks. None: none."""
        return FACTS[self.name].logs if self.name != GRADIENT_STEPS or self.steps > 0 else None

    @property
    def explores(self) -> bool:
        """Whether the first episodes of a trial explore, before what they gave is used."""
        return FACTS[self.name].explores

    @property
    def acts_on_prior(self) -> bool:
        """Whether they act on a z that nothing in the task has told: of the prior, or hypotheses."""
        return self.explores and not self.re_infers

    @property
    def re_infers(self) -> bool:
        """Whether z is inferred at every step, in the episodes before the scored one or, in zero-shot, in that one."""
        return FACTS[self.name].re_infers

    @property
    def one_episode(self) -> bool:
        """Whether a trial is the scored episode alone."""
        return FACTS[self.name].one_episode

    @property
    def least_exploration(self) -> int:
        """Exploration episodes at least: online-np has nothing to infer z from without one."""
        return 1 if self.explores and self.re_infers else 0

    def num_uniform_steps(self, exploration_episodes: int, horizon: int) -> int:
        """Steps of a trial, from the first on, whose actions are uniformly random."""
        return exploration_episodes * horizon // 2 if self.explores and self.re_infers else 0

    def least_episodes(self, exploration_episodes: int | None) -> int:
        """Episodes of a trial at least, the scored one included."""
        return 1 + (exploration_episodes or 0 if self.explores else 0)


def parse(text: str) -> Protocol:
    """The protocol of this name. Raises NacreError for an unknown name (with the nearest one) and a wrong K."""
    name, colon, number = text.partition(":")
    if name not in FACTS:
        raise unknown("protocol", text, [f"{GRADIENT_STEPS}:K" if n == GRADIENT_STEPS else n for n in FACTS])
    if name != GRADIENT_STEPS:
        if colon:
            raise NacreError(f"protocol '{name}' takes no number; write --protocol {name}.")
        return Protocol(name)
    if not re.fullmatch("[0-9]{1,4}", number):
        raise NacreError(
            f"{GRADIENT_STEPS} needs its number of steps, 0 to {MOST_STEPS}; write --protocol {GRADIENT_STEPS}:1."
        )
    return Protocol(name, int(number))


def chosen(text: str, possible: Sequence[str]) -> Protocol:
    """As `parse`, of the protocols that a method can be tested by (`MethodSettings.protocols`).

    Raises NacreError for another one, with those.
    """
    protocol = parse(text)
    if protocol.name not in possible:
        names = ", ".join(f"{name}:K" if name == GRADIENT_STEPS else name for name in possible)
        raise NacreError(f"this method cannot be tested by protocol {protocol}; choose one of: {names}.")
    return protocol
