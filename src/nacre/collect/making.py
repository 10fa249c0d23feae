"""Data sets out of policies: what they are called, and what is told of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import jax
import numpy as np

from nacre.algorithms.registry import find_algorithm
from nacre.collect import rollouts
from nacre.collect.rollouts import EXPERT, Policies
from nacre.collect.settings import SacSettings
from nacre.collect.work import TaskPlan
from nacre.data.dataset import DataSet, Writer, open_data_set
from nacre.data.episodes import LoggedEpisode
from nacre.data.layout import METADATA, exists, folder_of
from nacre.errors import NacreError, unknown
from nacre.families.family import Family
from nacre.runs.migration import completed
from nacre.runs.pace import SECONDS_BETWEEN_REPORTS, duration
from nacre.types import Tasks, stream


def default_id(family: str, benchmark: str, quality: str) -> str:
    """The name of a data set when nothing else is said."""
    return f"nacre/{family}/{benchmark + '-' if benchmark else ''}{quality}-v0"


def check_quality(quality: str) -> None:
    """NacreError for a quality that there is not."""
    if quality not in rollouts.QUALITIES:
        raise unknown("quality", quality, rollouts.QUALITIES)


def recipe_of(
    made_by: Mapping[str, Any], benchmark: str, checkpoints: Sequence[int], num_episodes: int
) -> dict[str, Any]:
    """What a data set tells about how it was made: the policies (`made_by`), and which episodes of them."""
    return {
        **made_by, "benchmark": benchmark, "checkpoints": list(checkpoints), "episodes_of_a_checkpoint": num_episodes
    }  # fmt: skip


ORIGIN = "started_from_networks"
"""In a recipe: the hash of the networks that the run of the policies started from; left out where they were fresh."""


def is_made(id: str, quality: str, family: Family, train: Tasks, test: Tasks, recipe: Mapping[str, Any]) -> bool:
    """Whether there is a data set of this name, family and tasks, by this recipe: what an earlier call has written.

    NacreError for a name that is no data set's, and where it is taken by anything else.
    """
    folder = folder_of(id)
    if not folder.exists():
        return False
    if not (folder / METADATA).is_file():
        raise exists(folder)
    found = open_data_set(id)
    wanted, there = json.loads(json.dumps(dict(recipe))), dict(found.recipe)
    same = found.quality == quality and "slice_of" not in there and same_tasks(found.train, train)
    if there.get("algorithm") == wanted["algorithm"] and isinstance(there.get("settings"), Mapping):
        there["settings"] = completed(there["settings"], _settings_type(wanted["algorithm"]))
    same = same and same_tasks(found.test, test) and found.family == family
    if not (same and all(there.get(name) == wanted.get(name) for name in {*wanted, ORIGIN})):
        raise exists(folder)
    return True


def _settings_type(algorithm: str) -> type[Any]:
    """The class of the settings of the algorithm that a recipe names."""
    return SacSettings if algorithm == "sac" else find_algorithm(algorithm).settings


def same_tasks(one: Tasks, other: Tasks) -> bool:
    """Whether these are the same tasks in the same order."""
    return set(one) == set(other) and all(
        np.shape(values) == np.shape(other[name]) and np.allclose(values, other[name]) for name, values in one.items()
    )


class _Stopped(Exception):
    """The writing of a data set is given up."""


def _silent(line: str) -> None:
    pass


def make(
    policies: Policies, quality: str, id: str, num_episodes: int, replay: Iterable[LoggedEpisode] | None = None, *,
    stopped: Callable[[], str | None] = lambda: None, tell: Callable[[str], None] = _silent,
) -> DataSet | None:  # fmt: skip
    """A data set of this quality; `replay` is what the policies learnt from. `tell` gets lines about progress.

    None where `stopped` tells a reason before the last episode is written: then there is no such data set.
    """
    plan = policies.plan
    key = stream(jax.random.key(plan.seed), "evaluate")
    key = jax.random.fold_in(key, 2**30 + rollouts.QUALITIES.index(quality))
    wanted = rollouts.requests(policies, quality, num_episodes)
    tell(f"{id}: {len(wanted):,} episodes are played")
    episodes: Iterable[LoggedEpisode] = _watched(
        rollouts.logged_episodes(policies, wanted, key), len(wanted), id, stopped, tell
    )
    if quality == "replay":
        if replay is None:
            raise NacreError("there is no replay of these policies; choose another --quality.")
        episodes = chain(replay, episodes)
    recipe = recipe_of(policies.recipe, plan.benchmark, policies.steps, num_episodes)
    recipe["last_checkpoint"] = _by_split(plan, policies.returns[-1])
    references = {
        split: {"random": policies.random[places].tolist(), "reference": policies.returns.max(axis=0)[places].tolist()}
        for split, places in _places(plan).items()
    }
    try:
        with Writer(id, plan.family, plan.train, plan.test, quality, recipe, references=references) as writer:
            writer.add(episodes)
    except _Stopped:
        return None
    return writer.close()


def _watched(
    episodes: Iterable[LoggedEpisode], number: int, id: str, stopped: Callable[[], str | None],
    tell: Callable[[str], None],
) -> Iterator[LoggedEpisode]:  # fmt: skip
    """The episodes, with a line about how far they are now and then; raises _Stopped when asked to stop."""
    started = told_at = time.monotonic()
    for done, one in enumerate(episodes, 1):
        now = time.monotonic()
        if now - told_at > SECONDS_BETWEEN_REPORTS:
            told_at, left = now, (now - started) / done * (number - done)
            tell(f"{id}: {done:,} of {number:,} episodes, {duration(left)} left")
        if stopped():
            raise _Stopped
        yield one


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
