"""Whether a run can be trained on as many devices as it asks for."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from nacre.errors import NacreError
from nacre.runs.experiment import Experiment


def check_devices(experiments: Sequence[Experiment]) -> None:
    """Refuses runs, side by side, whose `devices` are not there, or cannot each be given as much as the others."""
    experiment, seeds = experiments[0], len(experiments)
    number = experiment.options.devices
    if number == 1:
        return
    if not experiment.algorithm.several_devices:
        raise NacreError(f"{experiment.algorithm_name} trains on one device; leave out --devices.")
    there = jax.local_devices()
    if number > len(there):
        raise NacreError(
            f"devices is {number}, but JAX sees {len(there)} here (of the kind {there[0].platform}); change --devices."
        )
    if seeds > 1 and seeds % number:
        raise NacreError(
            f"{seeds} seeds cannot be shared out evenly over {number} devices; choose --devices that divide {seeds}."
        )
    tasks = experiment.settings.tasks_shared_out
    if seeds == 1 and tasks % number:
        raise NacreError(
            f"the {tasks} tasks of an update (--meta-batch) cannot be shared out evenly over {number} devices; choose "
            f"--devices that divide {tasks}."
        )
