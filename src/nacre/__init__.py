"""nacre: agents that learn a new task within a few episodes. The public names, as a table of contents.

`import nacre` loads nothing: a public name is loaded when it is first used, and Gymnasium knows every family once it is
imported, too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nacre.families import forked as _forked  # noqa: F401  (watches from here on)
from nacre.families import gymnasium_ids as _gymnasium_ids

if TYPE_CHECKING:
    from nacre.algorithms.protocol import Algorithm
    from nacre.algorithms.registry import ALGORITHMS, register_algorithm
    from nacre.deploy.changing_tasks import ChangeReport, evaluate_change
    from nacre.deploy.session import Session
    from nacre.deploy.sharing import push
    from nacre.deploy.trained_agent import TrainedAgent, load
    from nacre.deploy.trial_reports import EpisodeReport, TrialReport
    from nacre.errors import NacreError
    from nacre.families.catalog import FAMILIES, make_family
    from nacre.families.family import Family, JaxFamily, JaxStep, MujocoFamily, TaskSet
    from nacre.families.gymnasium import GymnasiumFamily
    from nacre.fine_tuning.running import FineTuned, fine_tune
    from nacre.presets.fine_tuning import FineTuneSettings
    from nacre.presets.settings import MethodSettings
    from nacre.presets.trials import TrialSettings
    from nacre.report.comparison import Comparison, compare
    from nacre.runs.directory import RunDirectory
    from nacre.runs.experiment import resolve
    from nacre.runs.meta_training import resume, resume_seeds, train, train_seeds
    from nacre.runs.registration import register_family
    from nacre.runs.watching import Iteration
    from nacre.simulation.check import check_family
    from nacre.simulation.rollout import evaluate, score
    from nacre.sweeps.running import Swept, sweep
    from nacre.types import Agent, Belief, Episode, Transition

_MODULES = {
    "algorithms.protocol": ("Algorithm",),
    "algorithms.registry": ("ALGORITHMS", "register_algorithm"),
    "deploy.changing_tasks": ("ChangeReport", "evaluate_change"),
    "deploy.session": ("Session",),
    "deploy.sharing": ("push",),
    "deploy.trained_agent": ("TrainedAgent", "load"),
    "deploy.trial_reports": ("EpisodeReport", "TrialReport"),
    "errors": ("NacreError",),
    "families.catalog": ("FAMILIES", "make_family"),
    "families.family": ("Family", "JaxFamily", "JaxStep", "MujocoFamily", "TaskSet"),
    "families.gymnasium": ("GymnasiumFamily",),
    "fine_tuning.running": ("FineTuned", "fine_tune"),
    "presets.fine_tuning": ("FineTuneSettings",),
    "presets.settings": ("MethodSettings",),
    "presets.trials": ("TrialSettings",),
    "report.comparison": ("Comparison", "compare"),
    "runs.directory": ("RunDirectory",),
    "runs.experiment": ("resolve",),
    "runs.watching": ("Iteration",),
    "runs.meta_training": ("resume", "resume_seeds", "train", "train_seeds"),
    "runs.registration": ("register_family",),
    "simulation.check": ("check_family",),
    "simulation.rollout": ("evaluate", "score"),
    "sweeps.running": ("Swept", "sweep"),
    "types": ("Agent", "Belief", "Episode", "Transition"),
}
"""Module -> the public names in it; the imports above say the same to type checkers."""

__all__ = [
    "ALGORITHMS",
    "FAMILIES",
    "Agent",
    "Algorithm",
    "Belief",
    "ChangeReport",
    "Comparison",
    "Episode",
    "EpisodeReport",
    "Family",
    "FineTuneSettings",
    "FineTuned",
    "GymnasiumFamily",
    "Iteration",
    "JaxFamily",
    "JaxStep",
    "MethodSettings",
    "MujocoFamily",
    "NacreError",
    "RunDirectory",
    "Session",
    "Swept",
    "TaskSet",
    "TrainedAgent",
    "Transition",
    "TrialReport",
    "TrialSettings",
    "check_family",
    "compare",
    "evaluate",
    "evaluate_change",
    "fine_tune",
    "load",
    "make_family",
    "push",
    "register_algorithm",
    "register_family",
    "resolve",
    "resume",
    "resume_seeds",
    "score",
    "sweep",
    "train",
    "train_seeds",
]


def _register_environments() -> None:
    importlib.import_module("nacre.families.catalog").register_environments()


_gymnasium_ids.once_imported(_register_environments)


def __getattr__(name: str) -> Any:
    """A public name, loaded at its first use."""
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(importlib.import_module(f"nacre.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'nacre' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
