"""Data sets out of policies: what they are called, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import jax
import numpy as np

from nacre.collect import rollouts
from nacre.collect.rollouts import EXPERT, Policies
from nacre.collect.work import TaskPlan
from nacre.data.dataset import DataSet, Writer
from nacre.data.episodes import LoggedEpisode
from nacre.errors import NacreError, unknown
from nacre.types import stream


def default_id(family: str, benchmark: str, quality: str) -> str:
    """The name of a data set when nothing else is said."""
    return f"nacre/{family}/{benchmark + '-' if benchmark else ''}{quality}-v0"


def check_quality(quality: str) -> None:
    """NacreError for a quality that there is not."""
    if quality not in rollouts.QUALITIES:
        raise unknown("quality", quality, rollouts.QUALITIES)


def make(
    policies: Policies, quality: str, id: str, num_episodes: int, replay: Iterable[LoggedEpisode] | None = None
) -> DataSet:
    """A data set of this quality; `replay` is what the policies learnt from."""
    plan = policies.plan
    key = stream(jax.random.key(plan.seed), "evaluate")
    key = jax.random.fold_in(key, 2**30 + rollouts.QUALITIES.index(quality))
    wanted = rollouts.requests(policies, quality, num_episodes)
    episodes: Iterable[LoggedEpisode] = rollouts.logged_episodes(policies, wanted, key)
    if quality == "replay":
        if replay is None:
            raise NacreError("there is no replay of these policies; choose another --quality.")
        episodes = chain(replay, episodes)
    recipe = {
        **policies.recipe, "benchmark": plan.benchmark, "checkpoints": policies.steps,
        "episodes_of_a_checkpoint": num_episodes, "last_checkpoint": _by_split(plan, policies.returns[-1]),
    }  # fmt: skip
    references = {
        split: {"random": policies.random[places].tolist(), "reference": policies.returns.max(axis=0)[places].tolist()}
        for split, places in _places(plan).items()
    }
    with Writer(id, plan.family, plan.train, plan.test, quality, recipe, references=references) as writer:
        writer.add(episodes)
    return writer.close()


def _places(plan: TaskPlan) -> dict[str, np.ndarray]:
    return {split: plan.members(split) for split in ("train", "test")}


def _by_split(plan: TaskPlan, values: np.ndarray) -> dict[str, list[float]]:
    return {split: values[places].tolist() for split, places in _places(plan).items()}


def table(policies: Policies) -> list[dict[str, Any]]:
    """What each task's policy came to: mean returns of random actions, the last checkpoint and the best one.

    'last_of_best': share of the way from random actions to the best checkpoint; None where that is no
    better.
    """
    plan, rows = policies.plan, []
    for split, places in _places(plan).items():
        for task, place in enumerate(places):
            returns, value = policies.returns[:, place], float(rollouts.normalised(policies)[-1, place])
            rows.append(
                {
                    "split": split, "task": task, "random": float(policies.random[place]), "last": float(returns[-1]),
                    "best": float(returns.max()), "best_step": policies.steps[int(returns.argmax())],
                    "last_of_best": None if np.isnan(value) else value,
                }
            )  # fmt: skip
    return rows


def tell_of_quality(policies: Policies, tell: Callable[[str], None]) -> None:
    """Names the tasks whose last checkpoint is less than 90 % of the way from random actions to their best."""
    rows = table(policies)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in ("random", "last", "best")}
    tell(f"mean return: random {mean['random']:.2f}, last checkpoint {mean['last']:.2f}, best {mean['best']:.2f}")
    behind = [row for row in rows if row["last_of_best"] is None or row["last_of_best"] < EXPERT]
    if behind:
        named = ", ".join(f"{row['split']} {row['task']} ({_share(row['last_of_best'])})" for row in behind[:8])
        more = f" and {len(behind) - 8} more" if len(behind) > 8 else ""
        tell(
            f"warning: the last checkpoint is less than {EXPERT:.0%} of the way from random actions to the best one in "
            f"{len(behind)} of {len(rows)} tasks: {named}{more}; more steps (--num-steps) make it steadier"
        )


def _share(last_of_best: float | None) -> str:
    return f"{last_of_best:.0%}" if (last_of_best or 0) > 0 else "no better than random actions"
