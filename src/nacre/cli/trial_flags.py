"""The flags of a trial, which every command has that plays trials or prepares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrialFlags:
    """How a trial differs from that of the run's settings. None: as the run was configured."""

    episodes: int | None = None
    """Episodes of a trial. The last one is scored. Default: as the run was configured."""
    exploration_episodes: int | None = None
    """How many episodes of a trial explore before the belief is used (PEARL). Default: as the run was configured."""
    exploration: str | None = None
    """How the exploring episodes choose z (PEARL): 'prior' draws it from the prior, 'hypotheses' takes the means of the
    agent's beliefs about train tasks, several in an episode. Default: as the run was configured."""
    forgetting: float | None = None
    """Multiplies the weight of earlier transitions in the belief by this number at every step, above 0 and at most 1
    (PEARL). Default: as the run was configured."""
    resample: str | None = None
    """When z is drawn anew once the belief is used (PEARL): after every 'episode', or after every 'step'. With 'mean'
    it is the mean of the belief at every step. Default: as the run was configured."""
    protocol: str | None = None
    """What the agent is given of a task before the scored episode: online-prior, online-np, offline-own-context,
    offline-other-context, zero-shot or gradient-steps:K (docs/protocols.md). Default: as the run was configured."""

    def options(self) -> dict[str, Any]:
        """The options of the trials but the number of their episodes, as `TrainedAgent` takes them."""
        return {
            name: getattr(self, name)
            for name in ("exploration_episodes", "exploration", "forgetting", "resample", "protocol")
        }


@dataclass(frozen=True, kw_only=True)
class SimulatedTrialFlags(TrialFlags):
    """Those of a trial that nacre plays itself, which may begin with logged transitions."""

    context_transitions: int | None = None
    """How many logged transitions of a task the agent is given, in protocols that give it some. Default: as the run was
    configured."""

    def options(self) -> dict[str, Any]:
        return {**super().options(), "context_transitions": self.context_transitions}
