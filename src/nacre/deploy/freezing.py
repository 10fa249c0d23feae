"""An agent that adapts by gradient steps, frozen after a trial: what it has become, as a policy that learns no more."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from nacre.deploy.session import Session, seed_key
from nacre.errors import NacreError
from nacre.presets.trials import TrialSettings
from nacre.simulation import rollout

WORDS = {
    "episodes": 1, "scored_episode": 1, "exploration_episodes": None, "exploration": "prior", "sampled": 0,
    "needs_logs": False,
}  # fmt: skip
"""What agent.json says of its trials."""


class Adapted(NamedTuple):
    """What became of an agent in a trial."""

    memory: Any  # [1, ...]
    about: dict[str, Any]  # for agent.json: the task, and the returns of the episodes before and in the scored one


def adapted(agent: Any, trials: TrialSettings, source: str | Session, seed: int) -> Adapted:
    """What a `TrainedAgent` is by the scored episode of a trial in a task ('velocity=1.3'), or in a session by now.

    Raises NacreError where there is nothing to freeze: another agent's session, or one that has adapted to nothing.
    """
    name = f"{agent.experiment.algorithm_name} on {agent.family.name}"
    if agent.experiment.algorithm.frozen is None:
        raise NacreError(
            f"{agent.experiment.algorithm_name} takes no gradient steps in a task, and its bundle learns the task by "
            "itself; leave --adapted-from out."
        )
    if isinstance(source, Session):
        if source.name != name:
            raise NacreError(f"the session is of {source.name}, not of {name}; give one of agent.session().")
        if not source.has_adapted:
            raise NacreError("the session has adapted to nothing yet; end an episode, or absorb logged transitions.")
        return Adapted(source.memory, {"task": None, "episodes": source.num_episodes, "steps": source.num_steps})
    task = agent.family.parse_task(source, allow_ood=True)
    logged = None
    if trials.meets.logs is not None:
        logged = agent.contexts(task, trials.context_transitions, seed, protocol=trials.protocol)
    functions, params = agent.functions_for(trials), agent.params_for(trials)
    played = list(rollout.trial(agent.family, functions, params, task, seed_key(seed), trials.episodes, logged))
    told = {name: values[0].tolist() for name, values in task.items()}
    returns = [float(each.episode.returns()[0]) for each in played]
    return Adapted(jax.device_get(played[-1].memory_before), {"task": told, "returns": returns})
