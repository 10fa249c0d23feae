"""What is told of a trial of a trained agent."""

from __future__ import annotations

from typing import Any, NamedTuple


class EpisodeReport(NamedTuple):
    """What one episode of a trial gave, and what the agent believes after it."""

    episode: int  # from 1
    episode_return: float
    length: int
    belief_mean: list[float]  # [latent_dim]; empty for a method without a belief
    belief_std: list[float]
    success: bool | None = None  # None where the family does not tell
    ended_by: str = "horizon"  # "terminated", "truncated" (by the environment), or "horizon": the family's, at which
    # the agent's episodes are cut

    def __repr__(self) -> str:
        solved = {None: "", True: ", solved", False: ", not solved"}[self.success]
        return (
            f"EpisodeReport({self.episode}: return {self.episode_return:.4g} in {self.length} steps, "
            f"ended by {self.ended_by}{solved}{_belief_text(self)})"
        )


def _belief_text(report: EpisodeReport, most: int = 3) -> str:
    beliefs = [f"{m:.2f}±{s:.2f}" for m, s in zip(report.belief_mean, report.belief_std, strict=True)]
    more = f" ... ({len(beliefs)})" if len(beliefs) > most else ""
    return f", belief {' '.join(beliefs[:most])}{more}" if beliefs else ""


class TrialReport(NamedTuple):
    """One trial: the agent knew nothing of the task before its first episode."""

    task: dict[str, Any]  # empty when the environment was the caller's
    episodes: list[EpisodeReport]

    @property
    def returns(self) -> list[float]:
        """Return of every episode."""
        return [episode.episode_return for episode in self.episodes]

    def __repr__(self) -> str:
        task = f"task {self.task}, " if self.task else ""
        shown = [f"{value:.4g}" for value in self.returns]
        shown = shown if len(shown) <= 6 else [*shown[:2], "...", *shown[-2:]]
        return f"TrialReport({task}{len(self.episodes)} episodes, returns {', '.join(shown)})"
