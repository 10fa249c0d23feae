"""Runs on several devices: where their arrays lie, and how one program reaches all of them.

Several seeds: each run's arrays lie on one device, as many runs on each. One seed: its arrays lie on all devices alike,
and the tasks of an update are shared out. The training loop goes by where the arrays lie, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

SEEDS, TASKS = "seed", "task"
"""The axis of a mesh of devices: what is shared out over it."""


def places(num_devices: int, num_seeds: int) -> list[Any]:
    """Where each run's arrays are to lie: a device, a sharding that copies them to all devices, or None (anywhere)."""
    if num_devices == 1:
        return [None] * num_seeds
    devices = jax.local_devices()[:num_devices]
    if num_seeds == 1:
        return [_everywhere(Mesh(np.array(devices), (TASKS,)))]
    return [devices[seed * num_devices // num_seeds] for seed in range(num_seeds)]


def placed(tree: Any, place: Any) -> Any:
    """The tree with its arrays there. Keys stay anywhere: collection and evaluation draw from the keys of all runs."""
    if place is None:
        return tree

    def moved(x: Any) -> Any:
        is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.device_put(x, place) if isinstance(x, jax.Array) and not is_key else x

    return jax.tree.map(moved, tree)


def mesh_of(trees: Sequence[Any]) -> Mesh | None:
    """The devices that the runs' arrays lie on; None where that is one device. The runs on a device stand together."""
    each = [_devices_of(tree) for tree in trees]
    if len(each[0]) > 1:
        return Mesh(np.array(each[0]), (TASKS,))
    distinct = list(dict.fromkeys(device for devices in each for device in devices))
    return Mesh(np.array(distinct), (SEEDS,)) if len(distinct) > 1 else None


def _devices_of(tree: Any) -> list[jax.Device]:
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            return sorted(leaf.devices(), key=lambda device: device.id)
    return []


def _everywhere(mesh: Mesh) -> Sharding:
    return NamedSharding(mesh, PartitionSpec())


# One run: what an update draws is shared out by tasks


def tasks_shared_out(drawn: Any, mesh: Mesh) -> Any:
    """In compiled code: arrays [seed, task, ...], a part of the tasks on each device."""
    return jax.lax.with_sharding_constraint(drawn, NamedSharding(mesh, PartitionSpec(None, TASKS)))


def on_all(tree: Any, mesh: Mesh) -> Any:
    """In compiled code: the tree, whole on every device."""
    return jax.lax.with_sharding_constraint(tree, _everywhere(mesh))


# Several runs: a device's part of the program sees the arrays of its own runs as they are. For the whole program the
# first run's arrays of all devices are one along their first axis, and so the second's. Nothing is copied for that.


class Scalar(NamedTuple):
    """A number that has no axes, in the place of which it stands with one, of length 1 on a device."""

    value: Any  # [device]


def with_axes(tree: Any) -> Any:
    """The tree, all leaves of which have an axis."""
    return jax.tree.map(lambda x: Scalar(x[None]) if x.ndim == 0 else x, tree)


def without_axes(tree: Any) -> Any:
    """The inverse."""
    return jax.tree.map(
        lambda x: x.value[0] if isinstance(x, Scalar) else x, tree, is_leaf=lambda x: isinstance(x, Scalar)
    )


def joined(trees: Sequence[Any], mesh: Mesh) -> list[Any]:
    """Trees of runs [seed] as one for each run of a device, whose leaves [device * first axis, ...] lie on all."""
    each = len(trees) // mesh.size
    there = [
        with_axes(jax.device_put(tree, mesh.devices.flat[seed // each]))  # no copy of what is there
        for seed, tree in enumerate(trees)
    ]
    sharding = NamedSharding(mesh, PartitionSpec(SEEDS))

    def join(*parts: jax.Array) -> jax.Array:
        rows, *rest = parts[0].shape
        return jax.make_array_from_single_device_arrays((mesh.size * rows, *rest), sharding, list(parts))

    return [jax.tree.map(join, *there[of_device::each]) for of_device in range(each)]


def parted(joined_trees: Sequence[Any], mesh: Mesh) -> list[Any]:
    """The inverse: trees of runs [seed], each on its device."""
    by_run: list[list[Any]] = []  # [run of a device][device]
    for tree in joined_trees:
        leaves, structure = jax.tree.flatten(tree)
        shards = [{shard.device: shard.data for shard in leaf.addressable_shards} for leaf in leaves]
        by_run.append(
            [without_axes(jax.tree.unflatten(structure, [of[device] for of in shards])) for device in mesh.devices.flat]
        )
    return [run[device] for device in range(mesh.size) for run in by_run]
