"""How a run is tested: episodes of a trial, how many of them explore, trials of a task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from nacre.errors import NacreError
from nacre.presets.settings import MethodSettings

AT_MOST = 999_999


@dataclass(frozen=True)
class TrialSettings:
    """How a trained agent is tested. A run's settings say it; `evaluate`, `adapt` and `session` may change it."""

    episodes: int
    """Episodes of a trial; the last one is scored."""
    exploration_episodes: int | None
    """Episodes, from the first on, that act on the prior; None of methods that have no such number."""
    repeats: int
    """Trials of each task in an evaluation."""

    @classmethod
    def of(cls, settings: MethodSettings) -> TrialSettings:
        """How a run with these settings is tested."""
        exploration = settings.num_exploration_episodes
        return cls(settings.num_evaluation_episodes, exploration, settings.num_evaluation_repeats)

    def changed(
        self, episodes: int | None = None, exploration_episodes: int | None = None, repeats: int | None = None
    ) -> TrialSettings:
        """The same with what is given in its place. Raises NacreError where no episode would use the belief."""
        for name, what, value, least in (
            ("episodes", "a trial", episodes, 1),
            ("repeats", "an evaluation", repeats, 1),
            ("exploration_episodes", "a trial", exploration_episodes, 0),
        ):
            flag = f"--{name.replace('_', '-')}"
            if value is not None and value < least:
                raise NacreError(f"{name} is {value}, but {what} needs at least {least}; change {flag}.")
            if value is not None and value > AT_MOST:
                raise NacreError(f"{name} has {len(str(value))} digits, but may be {AT_MOST} at most; change {flag}.")
        if exploration_episodes is not None and self.exploration_episodes is None:
            raise NacreError(
                "exploration_episodes was given, but this method does not count the episodes in which it explores; "
                "leave out --exploration-episodes."
            )
        given = {"episodes": episodes, "exploration_episodes": exploration_episodes, "repeats": repeats}
        after = dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})
        if after.exploration_episodes is not None and after.episodes <= after.exploration_episodes:
            asked = "asked for" if exploration_episodes is not None else "as the run was configured"
            raise NacreError(
                f"episodes is {after.episodes}, but the first {after.exploration_episodes} of a trial explore "
                f"({asked}), so the belief would never be used; ask for more episodes, or set --exploration-episodes N "
                "(in Python exploration_episodes=N) below them."
            )
        return after

    def applied_to(self, settings: MethodSettings) -> MethodSettings:
        """The settings by which an agent is made for such trials; the same object where they say so already.

        An agent may remember as many episodes as its settings have, so these are never fewer than the run's.
        """
        wanted = {"num_evaluation_episodes": max(self.episodes, settings.num_evaluation_episodes)}
        if self.exploration_episodes is not None:
            wanted["num_exploration_episodes"] = self.exploration_episodes
        different = {name: value for name, value in wanted.items() if getattr(settings, name) != value}
        return dataclasses.replace(settings, **different) if different else settings
