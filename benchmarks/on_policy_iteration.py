"""Times iterations of an on-policy method on a family, at the paper's batches: seconds of each, and of their episodes.

    python benchmarks/on_policy_iteration.py promp ant-goal --iterations 3

The first iteration compiles. To compare versions, run it with PYTHONPATH at the src of each, in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from nacre.algorithms import maesn, maml, rl2
from nacre.families.catalog import make_family
from nacre.learning import on_policy
from nacre.runs.experiment import resolve

METHODS = {"rl2": rl2, "promp": maml, "maml-trpo": maml, "maesn": maesn}


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The function, which adds its seconds to a list."""

    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        found = function(*args, **kwargs)
        spent.append(time.perf_counter() - started)
        return found

    return call


def main() -> None:
    """Reads the command line, prints a line an iteration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("family")
    parser.add_argument("--iterations", type=int, default=3)
    args = parser.parse_args()
    spent: list[float] = []
    setattr(on_policy, "collect", timed(on_policy.collect, spent))  # noqa: B010
    trial = rl2.trial
    setattr(rl2, "trial", timed(lambda *args: list(trial(*args)), spent))  # noqa: B010
    method, family = METHODS[args.method], make_family(args.family)
    settings: Any = resolve(args.method, args.family, "paper", seed=0, iterations=args.iterations).settings
    tasks = family.task_set(0, settings.num_train_tasks, settings.num_test_tasks)
    started, steps = time.perf_counter(), 0
    for (state,), _ in method.meta_train(family, settings, tasks, [method.init(family, settings, 0)]):
        seconds, taken = time.perf_counter() - started, int(state.env_steps) - steps
        print(f"{taken} steps, {seconds:.2f} s, episodes {sum(spent):.2f} s", flush=True)
        spent.clear()
        started, steps = time.perf_counter(), int(state.env_steps)


if __name__ == "__main__":
    main()
