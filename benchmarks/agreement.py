"""How far an exported agent acts from the run that it is of: both sessions side by side, over whole trials.

    python benchmarks/agreement.py RUN [--trials 100] [--first 0] [--protocol online-np]

Each trial is in a new task of the family's distribution. The session in JAX acts; what its actions lead to is what both
observe. Prints one JSON object: the largest differences of an action, and of the belief's mean and standard deviation
after an episode; the share of actions that are more than 1e-5 apart; and the standard deviation of the actions, for
scale.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import nacre
from nacre.deploy.bundles import task_text
from nacre.families.family import take
from nacre.simulation.environment import TaskEnvironment

APART = 1e-5


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, plays the trials, prints what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial, which is its seed")
    parser.add_argument("--protocol")
    args = parser.parse_args(arguments)
    agent = nacre.load(args.run)
    experiment = agent.experiment
    about = {"algorithm": experiment.algorithm_name, "family": agent.family.name, "preset": experiment.preset}
    about |= {"protocol": args.protocol or agent.trials.protocol, "grad_steps": agent.grad_steps}
    print(json.dumps(about | compared(agent, range(args.first, args.first + args.trials), args.protocol)))


def compared(agent: nacre.TrainedAgent, trials: range, protocol: str | None = None) -> dict[str, Any]:
    """What the two sessions do in these trials."""
    tasks = agent.family.sample_tasks(np.random.default_rng(0), trials.stop)
    with tempfile.TemporaryDirectory() as folder:
        ours = agent.export(Path(folder) / "policy", protocol=protocol)
    env = TaskEnvironment(agent.family, allow_ood=True)
    actions, apart, mean, std = [], [], [0.0], [0.0]
    for trial in trials:
        task = task_text(take(tasks, slice(trial, trial + 1)))
        told = task if agent.experiment.algorithm.needs_task else None
        theirs = agent.session(trial, task=told, protocol=protocol)
        ours.begin(trial, told)
        for episode in range(ours.about["trial"]["episodes"]):
            obs, _ = env.reset(seed=1000 * trial + episode, options={"task": task})
            for _ in range(agent.family.horizon):
                actions.append(theirs.act(obs))
                apart.append(float(np.abs(ours.act(obs) - actions[-1]).max()))
                obs, reward, terminated, truncated, _ = env.step(actions[-1])
                for session in (ours, theirs):
                    session.observe(obs, reward)
                if terminated or truncated:
                    break
            (own_mean, own_variance), (their_mean, their_variance) = ours.belief, theirs.belief
            mean.append(float(np.abs(own_mean - their_mean).max(initial=0)))
            std.append(float(np.abs(np.sqrt(own_variance) - np.sqrt(their_variance)).max(initial=0)))
            for session in (ours, theirs):
                session.end_episode()
    env.close()
    return {
        "trials": len(trials), "steps": len(apart), "action": max(apart), "belief_mean": max(mean),
        "belief_std": max(std), "share_apart": float(np.mean(np.array(apart) > APART)),
        "std_of_actions": float(np.std(actions)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
