"""Settings of a resumed run: those of config.json, with the changes that `nacre resume` allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from nacre.errors import NacreError
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment


def changed(run: RunDirectory, iterations: int | None, devices: int | None) -> Experiment:
    """The run's experiment, with a larger total of iterations and another number of devices where they are given."""
    experiment = run.experiment
    if iterations is not None:
        if iterations < experiment.settings.iterations:
            raise NacreError(
                f"the run at {run.path} is set to {experiment.settings.iterations} iterations; "
                "--iterations can only raise that."
            )
        settings = dataclasses.replace(experiment.settings, iterations=iterations)
        experiment = dataclasses.replace(experiment, settings=settings)
    if devices is not None:
        experiment = dataclasses.replace(experiment, options=dataclasses.replace(experiment.options, devices=devices))
    return experiment


def check_alike(runs: Sequence[RunDirectory], experiments: Sequence[Experiment]) -> None:
    """Runs resume side by side only if they differ in nothing but seed and preset name."""

    def seedless(experiment: Experiment) -> Experiment:
        options = dataclasses.replace(experiment.options, seed=0)
        return dataclasses.replace(experiment, options=options, preset="")

    if len({run.path.resolve() for run in runs}) < len(runs):
        raise NacreError(f"a run was named twice among {', '.join(str(run.path) for run in runs)}; name each once.")
    for run, experiment in zip(runs, experiments, strict=True):
        if seedless(experiment) != seedless(experiments[0]):
            raise NacreError(
                f"the runs at {runs[0].path} and {run.path} differ in more than their seed; resume them apart."
            )
