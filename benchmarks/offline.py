"""What offline methods cost on this machine, a JSON object a line: `python benchmarks/offline.py [PART...] > FILE`.

Updates at the paper's sizes on made-up logs of cheetah-vel, in turns with PEARL's online update; writing, loading and
reopening a data set; an update of soft actor-critic in many tasks at once. Some minutes, on an idle machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from nacre import benchmark
from nacre.algorithms.registry import find_algorithm
from nacre.collect import sac
from nacre.collect.settings import settings_for
from nacre.data.dataset import LoggedEpisode, Writer, open_data_set
from nacre.families.catalog import make_family
from nacre.learning.offline import Logs
from nacre.learning.replay import row_width

VEL = make_family("cheetah-vel")
EQUAL = dict(hidden_dim=300, num_hidden_layers=3, meta_batch=16, batch_size=256, context_batch_size=100)
"""PEARL's sizes in the words of the context-based methods."""
METHODS = [
    ("offline-pearl", EQUAL), ("focal", EQUAL), ("offline-pearl", EQUAL | {"backbone": "awac"}),
    ("offline-pearl", EQUAL | {"backbone": "sac"}), ("offline-pearl", EQUAL | {"backbone": "brac"}), ("macaw", {}),
    ("bc", {}), ("multitask-awr", {}),
]  # fmt: skip


def tell(**values: Any) -> None:
    print(json.dumps({"machine": f"{os.cpu_count()} CPUs", "jax": jax.__version__, **values}), flush=True)


def made_up_logs(num_tasks: int = 20, num_episodes: int = 10) -> Logs:
    rng, steps = np.random.default_rng(0), num_episodes * VEL.horizon
    rows = rng.standard_normal((num_tasks * steps, row_width(VEL.obs_dim, VEL.action_dim))).astype(np.float32)
    rows[:, VEL.obs_dim : VEL.obs_dim + VEL.action_dim] = np.tanh(rows[:, VEL.obs_dim : VEL.obs_dim + VEL.action_dim])
    rows[:, VEL.obs_dim + VEL.action_dim + 2] = 1.0  # discount
    row = np.arange(len(rows), dtype=np.int32)
    last = row // VEL.horizon * VEL.horizon + VEL.horizon - 1
    first = np.arange(num_tasks, dtype=np.int32) * steps
    logs = Logs(rows, rng.standard_normal(len(rows)).astype(np.float32), last, first, np.full_like(first, steps))
    return Logs(*map(jax.numpy.asarray, logs))


def update_ms(name: str, fields: dict[str, Any], logs: Logs, blocks: int = 4) -> tuple[float, int]:
    """(least milliseconds of an update among blocks of them, its operations)."""
    algorithm = find_algorithm(name)
    settings = algorithm.settings(**{"num_train_tasks": 20, "num_test_tasks": 2, **fields})
    state = algorithm.init(VEL, settings, 0)
    tasks = VEL.task_set(0, 20, 2)
    blocks_of: Iterator[Any] = algorithm.meta_train(VEL, settings, tasks, [state], logs)  # type: ignore[call-arg]
    next(blocks_of)
    least = np.inf
    for _ in range(blocks):
        started = time.perf_counter()
        _, metrics = next(blocks_of)
        jax.block_until_ready(metrics)
        least = min(least, (time.perf_counter() - started) / len(next(iter(metrics[0].values()))))
    return 1e3 * least, settings.update_flops(VEL.obs_dim, VEL.action_dim, 5)


def updates() -> None:
    logs = made_up_logs()
    pearl = benchmark.run("update", "cheetah-vel", "paper")
    tell(what="update", method="pearl (online)", ms=pearl["ms_per_update"], flops=pearl["flops_per_update"])
    for name, fields in METHODS:
        ms, flops = update_ms(name, fields, logs)
        tell(what="update", method=name, backbone=fields.get("backbone", ""), ms=ms, flops=flops)
    again = benchmark.run("update", "cheetah-vel", "paper")
    tell(what="update", method="pearl (online)", ms=again["ms_per_update"], flops=again["flops_per_update"])


def data_sets() -> None:
    for family, steps in ((VEL, 1_000_000), (make_family("point-robot"), 200_000)):
        tasks, rng, number = family.task_set(0, 10, 2), np.random.default_rng(0), steps // family.horizon

        def episodes(family: Any = family, rng: Any = rng, number: int = number) -> Iterator[LoggedEpisode]:
            for index in range(number):
                obs = rng.standard_normal((family.horizon + 1, family.obs_dim), np.float32)
                action = np.tanh(rng.standard_normal((family.horizon, family.action_dim), np.float32))
                reward = rng.standard_normal(family.horizon, np.float32)
                split, task = ("train", index % 10) if index % 12 < 10 else ("test", index % 2)
                yield LoggedEpisode(task, split, "mixed", -1, task, -1, obs, action, reward, reward, False)

        made = list(episodes())
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MINARI_DATASETS_PATH"] = folder
            started = time.perf_counter()
            with Writer(f"nacre/{family.name}/made-up-v0", family, tasks.train, tasks.test, "mixed", {}) as writer:
                writer.add(made)
            seconds = {"write_s": time.perf_counter() - started}
            path = writer.close().path
            on_disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            for name, discount in (("first_load_s", 0.99), ("reopen_s", 0.99), ("another_discount_s", 0.9)):
                started = time.perf_counter()
                open_data_set(path).logs("train", discount)
                seconds[name] = time.perf_counter() - started
            cache = sum(f.stat().st_size for f in path.rglob("*.npy"))
        tell(what="data", family=family.name, steps=steps, episodes=number, bytes_a_step=on_disk / steps,
             cache_bytes_a_step=cache / steps, **seconds)  # fmt: skip


def collecting() -> None:
    for name, precision in (("cheetah-vel", "float32"), ("cheetah-vel", "bfloat16"), ("point-robot", "float32")):
        family = make_family(name)
        settings = settings_for(family, num_steps=2 * 10 * family.horizon, num_random_steps=family.horizon,
                                precision=precision)  # fmt: skip
        tasks = family.sample_tasks(np.random.default_rng(0), 40)
        state = sac.begin(family, settings, sac.task_keys(0, 40))
        ms = []
        for _ in range(4 if family is not VEL else 3):
            state, played = sac.train_round(family, settings, tasks, state)
            if len(played.q_mean):
                ms.append(1e3 * played.seconds / len(played.q_mean))
        tell(what="collect", family=name, tasks=40, precision=precision, ms=min(ms),
             flops=40 * settings.update_flops(family))  # fmt: skip


def settings_of_sac() -> None:
    """The defaults of `nacre collect --recipe sac` beside the published ones, 12,000 steps in three tasks."""
    tasks = {"velocity": np.array([1.1, 2.0, 2.9])}
    published = dict(learning_rate=3e-4, soft_target_tau=0.005, normalise_critics=False, normalise_inputs=False)
    for label, changed in (("default", {}), ("published", published)):
        settings = settings_for(VEL, num_steps=12_000, **changed)
        state = sac.begin(VEL, settings, sac.task_keys(0, 3))
        if label == "default":
            tell(what="sac", settings="random", returns=sac.random_returns(VEL, state, tasks, 5).mean(1).tolist())
        for _ in range(settings.rounds(VEL)):
            state, _ = sac.train_round(VEL, settings, tasks, state)
        returns = sac.deterministic_returns(VEL, state, tasks, 5).mean(1)
        tell(what="sac", settings=label, velocities=tasks["velocity"].tolist(), returns=returns.tolist())


PARTS = {"updates": updates, "data_sets": data_sets, "collecting": collecting, "settings_of_sac": settings_of_sac}

if __name__ == "__main__":
    sac.a_device_per_core()  # as `nacre collect` does
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
