"""A family held to its contract (docs/add-a-family.md): what it declares, its tasks, and two short plays."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from nacre.errors import NacreError
from nacre.families.blame import CONTRACT, BrokenContract, check_tasks, failure, short
from nacre.families.catalog import is_built_in, make_family
from nacre.families.family import Family, num_tasks, take, task_text
from nacre.simulation import rollout
from nacre.types import Agent, Episode, Tasks, select

LANES = 4
"""Tasks that are played side by side."""


class CheckedLine(NamedTuple):
    """One line of the contract, and what is wrong with it."""

    line: str
    fault: str | None = None
    checked: bool = True  # False: a fault before kept it from being looked at


class CheckReport(NamedTuple):
    """What a check of a family came to."""

    family: str
    lines: list[CheckedLine]  # in the order of the contract
    warns: tuple[str, ...] = ()  # lines whose fault a run is told of, and not refused for

    @property
    def faults(self) -> list[CheckedLine]:
        """The lines that the family breaks."""
        return [line for line in self.lines if line.fault is not None]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check_family(family: str | Family, **options: Any) -> CheckReport:
    """Holds a family (or the registered one of that name, with its options) to the contract, line by line.

    It is played for two episodes of a few tasks with random actions.
    """
    made = make_family(family, **options) if isinstance(family, str) else family
    faults: dict[str, str] = {}
    warns: tuple[str, ...] = ()
    reached: set[str] = set()
    for line, step in _STILL.items():
        found = _fault(made, line, step)
        reached.add(line)
        if found:
            faults[found.line] = str(found)
            if line in ("declarations", "tasks"):  # without these nothing else can be looked at
                break
    else:
        try:
            warns = tuple(_play_faults(made, faults))
            reached |= set(CONTRACT) - ({"relabelling"} if faults.keys() & _BEFORE_RELABELLING else set())
        except NacreError as error:  # from a worker process only its sentence comes
            faults[next((line for line in CONTRACT if f": {line}.)" in str(error)), "exceptions")] = str(error)
    reached |= set(faults)
    return CheckReport(made.name, [CheckedLine(line, faults.get(line), line in reached) for line in CONTRACT], warns)


def check_before_run(family: Family) -> None:
    """Raises NacreError, before a run is begun, where a registered family breaks its contract. nacre's own are tested.

    That an environment ignores its seed is told, not refused: only an exact resume is lost.
    """
    if not is_built_in(family.name):
        _check_once(family)


@functools.lru_cache(maxsize=64)
def _check_once(family: Family) -> None:
    report = check_family(family)
    for line in report.faults:
        if line.line not in report.warns:
            raise NacreError(f"{line.fault} 'nacre check {family.name}' tells of every line.")
        logging.getLogger("nacre").warning("nacre: %s", line.fault)


def _fault(family: Family, line: str, step: Callable[[Family], None]) -> BrokenContract | None:
    try:
        step(family)
    except BrokenContract as error:
        return error
    except (Exception, SystemExit) as error:  # the family's own code, or what it refuses
        told = error if isinstance(error, NacreError) else failure(family.name, _FUNCTIONS[line], error)
        return told if isinstance(told, BrokenContract) else BrokenContract(str(told), line)
    return None


# ----------------------------------------------------------------------------------------------------------------------
# What it declares, and its tasks


def _declarations(family: Family) -> None:
    for name in ("name", "task_range", "obs_dim", "action_dim", "horizon", "parameters"):
        if not hasattr(family, name):
            raise BrokenContract(
                f"{type(family).__name__} does not declare {name}; add it to the class.", "declarations"
            )
    for name in ("obs_dim", "action_dim", "horizon"):
        value = getattr(family, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BrokenContract(
                f"{family.name} declares {name} as {short(value)}, but it must be a whole number of 1 or more.",
                "declarations",
            )
    sizes: Any = family.parameters
    right = isinstance(sizes, dict) and sizes and all(isinstance(size, int) and size >= 0 for size in sizes.values())
    if not right or not all(isinstance(name, str) and name.isidentifier() for name in sizes):
        raise BrokenContract(
            f"{family.name} declares its parameters as {short(sizes)}, but they must be names with the number of their "
            "components, 0 for a plain number.",
            "declarations",
        )


def _sampled(family: Family, seed: int, num: int = LANES) -> Tasks:
    return family.sample_tasks(np.random.default_rng(seed), num)


def _tasks(family: Family) -> None:
    for num in (1, LANES):
        check_tasks(family, "sample_tasks", _sampled(family, 0, num), num, "tasks")
    if not _same(_sampled(family, 0), _sampled(family, 0)):
        raise BrokenContract(
            f"{family.name}'s sample_tasks gives other tasks for a generator of the same seed; draw from `rng` alone.",
            "tasks",
        )


def _same(a: Tasks, b: Tasks) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def _range(family: Family) -> None:
    tasks = _sampled(family, 1, 32)
    inside = np.asarray(family.in_range(tasks))
    if inside.shape != (32,) or inside.dtype.kind != "b":
        raise BrokenContract(
            f"{family.name}'s in_range gives an array of shape {inside.shape} of {inside.dtype} for 32 tasks, but must "
            "give (32,) of bool.",
            "range",
        )
    if not inside.all():
        bad = {name: values[~inside][0].tolist() for name, values in tasks.items()}
        raise BrokenContract(f"{family.name}'s in_range refuses {bad}, which its sample_tasks gave.", "range")


def _task_sets(family: Family) -> None:
    try:
        first, again = (family.task_set(7, 6, 4) for _ in range(2))
    except NacreError:
        return  # it has reasons to refuse these numbers; a run's own are drawn before it begins
    for split, num in (("train", 6), ("test", 4)):
        check_tasks(family, f"task_set ({split})", getattr(first, split), num, "task sets")
        if not _same(getattr(first, split), getattr(again, split)):
            raise BrokenContract(
                f"{family.name}'s task_set gives other {split} tasks for the same task_seed; draw from that alone.",
                "task sets",
            )
    rows = [{tuple(row) for row in _rows(part)} for part in first[:2]]
    if family.disjoint and rows[0] & rows[1]:
        raise BrokenContract(
            f"{family.name}'s task_set gives tasks that are both train and test tasks; draw others, or declare "
            "disjoint = False.",
            "task sets",
        )


def _rows(tasks: Tasks) -> Iterator[Any]:
    return iter(np.concatenate([values.reshape(num_tasks(tasks), -1) for values in tasks.values()], axis=1).tolist())


def _text(family: Family) -> None:
    tasks = take(_sampled(family, 2), slice(0, 1))
    text = task_text(tasks)
    parsed = family.parse_task(text, allow_ood=True)
    if set(parsed) != set(tasks) or not _same(tasks, parsed):
        raise BrokenContract(f"{family.name}'s parse_task reads '{text}' as {short(parsed)}.", "text")


_FUNCTIONS = {
    "declarations": "class", "tasks": "sample_tasks", "range": "in_range", "task sets": "task_set",
    "text": "parse_task",
}  # fmt: skip
_STILL = {"declarations": _declarations, "tasks": _tasks, "range": _range, "task sets": _task_sets, "text": _text}
"""Line of the contract -> what looks at it without an episode."""


# ----------------------------------------------------------------------------------------------------------------------
# Played


@functools.cache
def _moving(action_dim: int) -> Agent:
    """Goes in a random direction for some steps, then in another; whatever it sees. Some actions are beyond [-1, 1]."""

    def draw(key: Any, lanes: int) -> Any:
        return jax.random.uniform(key, (lanes, action_dim), minval=-1.5, maxval=1.5)

    def act(params: Any, memory: Any, obs: Any, key: Any, explore: bool) -> tuple[Any, Any]:
        turns = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.2, memory.shape[:1])
        memory = select(turns, draw(key, memory.shape[0]), memory)
        return memory, memory

    return Agent(
        begin=lambda params, task, key: draw(key, num_tasks(task)),
        act=act,
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda index, scored_episode: True,
    )


def _play_faults(family: Family, faults: dict[str, str]) -> list[str]:
    """Plays tasks side by side, then the first of them in all lanes from the same seeds; adds what that shows to
    `faults`. Returns the lines whose faults a run is only told of."""
    agent, tasks, key = _moving(family.action_dim), _sampled(family, 3), jax.random.key(0)
    memory = rollout.begin(agent, {}, tasks, key)
    same = take(tasks, np.zeros(LANES, int))
    episodes = [rollout.episode(family, agent, {}, memory, played, key, explore=True)[1] for played in (tasks, same)]
    others, first = map(_numbers, episodes)
    warns = []
    if not all(np.array_equal(a[0], b[0]) for a, b in zip(others, first, strict=True)):
        warns.append("seeds")
        faults["seeds"] = str(BrokenContract(
            f"{family.name}'s environment ignores its seed: two episodes of one seed, one task and the same actions "
            "differ, so a resumed run will not be the uninterrupted one; draw from the seed of reset alone.",
            "seeds",
        ))  # fmt: skip
    elif not _tasks_differ(tasks):
        pass  # a family of one task
    elif all(np.array_equal(a, b) for a, b in zip(others, first, strict=True)):
        rewards = others[1][others[-1]]
        if (rewards == rewards.flat[0]).all():  # a sparse reward that random actions do not find, perhaps
            warns.append("difference")
        faults["difference"] = str(BrokenContract(
            f"the tasks of {family.name} make no difference: with the same seed and the same actions, episodes of "
            f"{LANES} tasks gave equal observations and rewards; see that set_task, reset_options or make_env reaches "
            "the environment, or that step uses its task.",
            "difference",
        ))  # fmt: skip
    if family.can_relabel and not faults.keys() & _BEFORE_RELABELLING:
        _relabelling(family, episodes[1], same, tasks, others, faults)
    return warns


_BEFORE_RELABELLING = {"seeds", "difference"}
"""Lines without which the rewards of other tasks cannot be compared."""


def _relabelling(
    family: Family, played: Episode, same: Tasks, tasks: Tasks, others: list[np.ndarray], faults: dict[str, str]
) -> None:
    """Holds the rewards that the family says the first task's episodes earn in the other tasks against what they did
    earn in these, with the same seeds and actions."""
    as_arrays = jax.tree.map(jax.numpy.asarray, (played.transitions, same, tasks))
    real = others[-1]
    try:
        told = jax.vmap(family.rewards_under)(*as_arrays)
    except Exception as error:
        refused = failure(family.name, "rewards_under", error)
        faults[refused.line if isinstance(refused, BrokenContract) else "exceptions"] = str(refused)
        return
    pair: Any = told
    shapes = [np.shape(one)[1:] for one in pair] if isinstance(pair, tuple | list) else np.shape(pair)[1:]
    if shapes != [real.shape[1:]] * 2:
        faults["relabelling"] = str(BrokenContract(
            f"{family.name}'s rewards_under must give a pair (reward, training reward), each of shape "
            f"{real.shape[1:]} for as many transitions, but gives shapes {shapes}.",
            "relabelling",
        ))  # fmt: skip
        return
    for name, rewards, earned in zip(("reward", "training reward"), told, others[1:3], strict=True):
        gap = np.abs(np.where(real, np.asarray(rewards), 0.0) - earned)
        if not (gap <= 1e-3 * (1.0 + np.abs(earned))).all():
            lane, step = np.unravel_index(int(np.argmax(gap)), gap.shape)
            faults["relabelling"] = str(BrokenContract(
                f"{family.name}'s rewards_under says that step {step + 1} of an episode earns the {name} "
                f"{float(np.asarray(rewards)[lane, step]):.6g} in {short(_first(take(tasks, [lane])))}, where it earns "
                f"{earned[lane, step]:.6g}; mend it, or leave it out where tasks differ in more than their rewards.",
                "relabelling",
            ))  # fmt: skip
            return


def _first(tasks: Tasks) -> dict[str, Any]:
    return {name: values[0].tolist() for name, values in tasks.items()}


def _tasks_differ(tasks: Tasks) -> bool:
    return len({tuple(row) for row in _rows(tasks)}) > 1


def _numbers(episode: Episode) -> list[np.ndarray]:
    """Observations, rewards, training rewards and successors of the real steps (0 elsewhere), and which are real."""
    transitions = episode.transitions
    real = np.arange(np.shape(transitions.reward)[1]) < np.asarray(episode.length)[:, None]

    def kept(values: Any) -> np.ndarray:
        array = np.asarray(values)
        return np.where(real.reshape(real.shape + (1,) * (array.ndim - 2)), array, 0.0)

    t = transitions
    return [kept(t.obs), kept(t.reward), kept(t.training_reward), kept(t.next_obs), real]
