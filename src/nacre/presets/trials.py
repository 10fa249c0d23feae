"""How a run is tested: protocol, episodes of a trial, how many of them explore, trials of a task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from nacre.errors import NacreError, unknown
from nacre.presets import protocols
from nacre.presets.protocols import Protocol
from nacre.presets.settings import HYPOTHESES, RESAMPLES, MethodSettings

AT_MOST = 999_999


class TrialOptions(TypedDict, total=False):
    """Changes to the trials of a run. None, or left out: as the run was configured."""

    exploration_episodes: int | None
    """Episodes at the start of a trial that explore."""
    exploration: str | None
    """How exploring episodes choose z: 'prior', or 'hypotheses' (PEARL)."""
    forgetting: float | None
    """Multiplies the belief's earlier factors at every step; at most 1 (PEARL)."""
    resample: str | None
    """When a new z is drawn: after every 'episode' or 'step'. 'mean': z is the belief's mean (PEARL)."""
    protocol: str | None
    """What the agent is given of a task before the scored episode: a name of docs/protocols.md."""
    context_transitions: int | None
    """Logged transitions of a task that the agent is given, in protocols with logged transitions."""


@dataclass(frozen=True)
class TrialSettings:
    """How a trained agent is tested. A run's settings define it; `evaluate`, `adapt` and `session` may change it."""

    episodes: int
    """Episodes of a trial. The last one is scored."""
    exploration_episodes: int | None
    """Episodes at the start of a trial that explore; None for methods without this number."""
    repeats: int
    """Trials of each task in an evaluation."""
    protocol: str = "online-prior"
    """What the agent is given of a task before the scored episode: see docs/protocols.md."""
    context_transitions: int = 256
    """Logged transitions of a task that the agent is given, in protocols with logged transitions."""
    exploration: str = "prior"
    """How exploring episodes choose z."""
    forgetting: float = 1.0
    """Multiplies the belief's earlier factors at every step."""
    resample: str = "episode"
    """When a new z is drawn from the belief."""
    settings: MethodSettings | None = field(default=None, compare=False, repr=False)
    """The method's settings that these follow from. They determine what may be changed."""

    @classmethod
    def of(cls, settings: MethodSettings, protocol: str | None = None) -> TrialSettings:
        """How a run with these settings is tested, or would be by another protocol.

        The settings' numbers are kept as far as the protocol allows: a trial gets an episode for the belief to be used
        in, and none explores where the agent does not. Raises NacreError for a protocol that the method cannot do.
        """
        asked = protocols.chosen(settings.protocol if protocol is None else protocol, settings.protocols)
        exploration, episodes = settings.num_exploration_episodes, settings.num_evaluation_episodes
        if exploration is not None:
            exploration = max(exploration, asked.least_exploration) if asked.explores else 0
        if asked.one_episode or (not asked.explores and str(asked) != settings.protocol):
            episodes = 1
        return cls(
            max(episodes, asked.least_episodes(exploration)), exploration, settings.num_evaluation_repeats, str(asked),
            settings.num_context_transitions, settings.exploration if asked.acts_on_prior else "prior",
            settings.forgetting, "episode" if asked.one_episode else settings.resample, settings,
        )  # fmt: skip

    @property
    def meets(self) -> Protocol:
        """The protocol, read."""
        return protocols.parse(self.protocol)

    @property
    def needs_logs(self) -> bool:
        """Whether a trial cannot begin before the agent was given logged transitions."""
        return self.meets.logs is not None and self.context_transitions > 0

    @property
    def needs_none(self) -> bool:
        """Whether a protocol that gives the agent logged transitions is to give it none."""
        return self.meets.logs is not None and self.context_transitions == 0

    def changed(
        self, episodes: int | None = None, repeats: int | None = None, **options: Unpack[TrialOptions]
    ) -> TrialSettings:
        """The same with what is given in its place. Raises NacreError where the protocol does not allow it, and where
        no episode would use the belief."""
        changes = {"episodes": episodes, "repeats": repeats, **options}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        protocol = given.pop("protocol", None)
        for name, value in given.items():
            if name not in ("exploration", "forgetting", "resample"):
                _check_number(name, value)
        before = self if protocol is None else self._by(protocol)
        before._check_allowed(given)
        after = dataclasses.replace(before, **given)
        after._check_episodes("asked for" if "exploration_episodes" in given else "as the run was configured")
        return after

    def _by(self, protocol: str) -> TrialSettings:
        """The same by another protocol: as the run would be tested by it."""
        if str(protocols.parse(protocol)) == self.protocol:
            return self
        if self.settings is None:
            raise NacreError(f"these trials are by {self.protocol}; make them by TrialSettings.of(settings, protocol).")
        other = TrialSettings.of(self.settings, protocol)
        kept: dict[str, Any] = dict(repeats=self.repeats, context_transitions=self.context_transitions)
        return dataclasses.replace(other, **kept)

    def _check_allowed(self, given: dict[str, Any]) -> None:
        """Raises NacreError for a number that means nothing here."""
        if "exploration_episodes" in given and self.exploration_episodes is None:
            raise NacreError(
                "exploration_episodes was given, but this method does not count the episodes in which it explores; "
                "leave out --exploration-episodes."
            )
        if given.get("exploration_episodes", 0) > 0 and not self.meets.explores:
            raise NacreError(
                f"exploration_episodes was given, but no episode explores by protocol {self.protocol}; leave out "
                "--exploration-episodes, or set --protocol online-prior."
            )
        if "exploration" in given:
            self._check_exploration(given["exploration"])
        if "forgetting" in given:
            self._check_forgetting(given["forgetting"])
        if "resample" in given:
            self._check_resample(given["resample"])
        if "context_transitions" in given and self.meets.logs is None:
            raise NacreError(
                f"context_transitions was given, but protocol {self.protocol} gives the agent no logged transitions; "
                "leave out --context-transitions, or set --protocol offline-own-context."
            )

    def _check_exploration(self, exploration: str) -> None:
        possible = ("prior",) if self.settings is None else self.settings.explorations
        if exploration not in ("prior", HYPOTHESES):
            raise unknown("exploration", exploration, ("prior", HYPOTHESES))
        if exploration not in possible:
            raise NacreError(f"this method has no '{exploration}' to explore by; leave out --exploration.")
        if exploration != "prior" and not self.meets.acts_on_prior:
            raise NacreError(
                f"exploration was given, but by protocol {self.protocol} no episode acts on the prior; leave out "
                "--exploration, or set --protocol online-prior."
            )

    def _check_forgetting(self, forgetting: float) -> None:
        if self.settings is not None and "forgetting" in _fields(self.settings):
            wanted: dict[str, Any] = {"forgetting": forgetting}
            dataclasses.replace(self.settings, **wanted)  # raises for what the method cannot do
        elif forgetting != 1.0:
            raise NacreError("this method has no belief that could fade; leave out --forgetting.")

    def _check_resample(self, resample: str) -> None:
        if resample not in RESAMPLES:
            raise unknown("resample", resample, RESAMPLES)
        if resample == "episode":
            return
        if self.settings is None or "resample" not in _fields(self.settings):
            raise NacreError("this method has no belief to draw from; leave out --resample.")
        if self.meets.one_episode:
            raise NacreError(
                f"resample was given, but protocol {self.protocol} infers z at every step already; leave out "
                "--resample."
            )

    def _check_episodes(self, as_said: str) -> None:
        """Raises NacreError where the protocol cannot be followed in so many episodes, or on nothing."""
        if self.meets.steps > 0 and self.context_transitions == 0:
            raise NacreError(
                f"context_transitions is 0, but protocol {self.protocol} takes gradient steps on them; change "
                "--context-transitions, or set --protocol gradient-steps:0."
            )
        if self.needs_none and self.settings is not None:
            try:
                self.applied_to(self.settings)
            except NacreError as error:
                raise NacreError(
                    "context_transitions is 0, but this method needs logged transitions of a task; change "
                    "--context-transitions."
                ) from error
        if self.meets.one_episode and self.episodes > 1:
            raise NacreError(
                f"episodes is {self.episodes}, but a trial by protocol {self.protocol} is the scored episode alone; "
                "leave out --episodes, and set --repeats for more trials."
            )
        if self.exploration_episodes is not None and self.exploration_episodes < self.meets.least_exploration:
            raise NacreError(
                f"exploration_episodes is {self.exploration_episodes}, but protocol {self.protocol} needs at least "
                f"{self.meets.least_exploration}; change --exploration-episodes."
            )
        if self.exploration_episodes is not None and self.episodes <= self.exploration_episodes:
            raise NacreError(
                f"episodes is {self.episodes}, but the first {self.exploration_episodes} of a trial explore "
                f"({as_said}), so the belief would never be used; ask for more episodes, or set "
                "--exploration-episodes N (in Python exploration_episodes=N) below them."
            )

    def applied_to(self, settings: MethodSettings) -> MethodSettings:
        """The settings by which an agent is made for such trials; the same object where they say so already.

        An agent may remember as many episodes as its settings have, so these are never fewer than the run's.
        """
        wanted: dict[str, Any] = {
            "num_evaluation_episodes": max(self.episodes, settings.num_evaluation_episodes), "protocol": self.protocol,
        }  # fmt: skip
        if self.exploration_episodes is not None and self.meets.explores:
            wanted["num_exploration_episodes"] = self.exploration_episodes
        if self.meets.acts_on_prior:
            wanted["exploration"] = self.exploration
        wanted |= {"forgetting": self.forgetting, "resample": self.resample}
        if self.meets.logs is not None:
            wanted["num_context_transitions"] = self.context_transitions
        own = _fields(settings)
        different = {name: value for name, value in wanted.items() if name in own and getattr(settings, name) != value}
        return dataclasses.replace(settings, **different) if different else settings


def _fields(settings: MethodSettings) -> set[str]:
    """Names of a method's own settings, beside the properties that all have."""
    return {one.name for one in dataclasses.fields(settings)}


def _check_number(name: str, value: int) -> None:
    """Raises NacreError for a number that no trial can have."""
    what, least = {
        "episodes": ("a trial", 1), "repeats": ("an evaluation", 1), "exploration_episodes": ("a trial", 0),
        "context_transitions": ("a context", 0),
    }[name]  # fmt: skip
    flag = f"--{name.replace('_', '-')}"
    if value < least:
        raise NacreError(f"{name} is {value}, but {what} needs at least {least}; change {flag}.")
    if value > AT_MOST:
        raise NacreError(f"{name} has {len(str(value))} digits, but may be {AT_MOST} at most; change {flag}.")
