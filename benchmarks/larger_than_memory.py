"""A made-up data set of cheetah-vel that outgrows a small memory: `python benchmarks/larger_than_memory.py [STEPS]`.

STEPS (12,500,000 unless given) take 193 bytes each in the cache that training reads: 2.4 GB. Episodes repeat 64 made-up
ones, so a machine of any size can write them, in some ten minutes. The set lies where data sets lie
(MINARI_DATASETS_PATH), as nacre/cheetah-vel/big-v0. Then train from it in a process with less memory:

    nacre train bc cheetah-vel --data nacre/cheetah-vel/big-v0 --num-train-steps-per-iteration 100 --iterations 4
        --num-test-tasks 1 --protocol gradient-steps:0
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import numpy as np

from nacre import make_family
from nacre.data.dataset import LoggedEpisode, Writer, open_data_set
from nacre.families.family import Family

ID = "nacre/cheetah-vel/big-v0"
NUM_TRAIN, NUM_TEST = 10, 2


def episodes(family: Family, number: int, distinct: int = 64) -> Iterator[LoggedEpisode]:
    """So many episodes of noise, one in sixty of a test task."""
    shape = (distinct, family.horizon + 1, family.obs_dim)
    made_up = np.random.default_rng(0).standard_normal(shape, np.float32)
    for index in range(number):
        obs = made_up[index % distinct]
        action, reward = np.tanh(obs[:-1, : family.action_dim]), obs[:-1, 3]
        split, task = ("train", index % NUM_TRAIN) if index % 60 < 59 else ("test", index % NUM_TEST)
        yield LoggedEpisode(task, split, "mixed", -1, task, -1, obs, action, reward, reward, False)


def main(steps: int) -> None:
    family = make_family("cheetah-vel")
    tasks, started = family.task_set(0, NUM_TRAIN, NUM_TEST), time.perf_counter()
    with Writer(ID, family, tasks.train, tasks.test, "mixed", {}) as writer:
        writer.add(episodes(family, steps // family.horizon))
    path, written = writer.close().path, time.perf_counter()
    rows = open_data_set(path).logs("train", 0.99).rows
    seconds = {"write_s": written - started, "first_load_s": time.perf_counter() - written}
    print(json.dumps({"id": ID, "steps": steps, "train_rows_bytes": rows.nbytes, **seconds}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 12_500_000)
