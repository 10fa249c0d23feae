"""A run that starts from another run's networks: found, compared, recorded, taken over. All else begins anew."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms.protocol import Transfer
from nacre.errors import NacreError
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment
from nacre.runs.loading import load_state


class Origin(NamedTuple):
    """Where a run's networks come from."""

    state: Any  # of the other run, without its replay
    record: dict[str, Any]  # what config.json says of it
    transfer: Transfer


def find_origin(path: Path, experiment: Experiment) -> Origin:
    """The newest good checkpoint of the run at `path`, as the origin of a run of `experiment`.

    Raises NacreError where the methods differ, or the networks, of which the first difference is named.
    """
    run, name = RunDirectory(path), experiment.algorithm_name
    if run.experiment.algorithm_name != name:
        raise NacreError(
            f"the run at {path} is of {run.experiment.algorithm_name}, so {name} cannot start from it; name a run of "
            "the same method by --from."
        )
    transfer = experiment.algorithm.transfer
    if transfer is None:
        raise NacreError(f"{name} has no networks to start from; leave out --from.")
    state = load_state(run, with_buffers=False)
    begun = jax.eval_shape(lambda: experiment.algorithm.init(experiment.family, experiment.settings, 0))
    taken = transfer(begun, state)
    here, there = _named(begun), _named(taken)
    for part in [*here, *there]:
        sizes = [tuple(leaves[part].shape) if part in leaves else None for leaves in (here, there)]
        if sizes[0] != sizes[1]:
            told = [f"of shape {size}" if size is not None else "not there" for size in sizes]
            raise NacreError(
                f"the networks of the run at {path} are others: {part} is {told[1]} in them, but {told[0]} in the new "
                "run's; give both the same settings, and families of the same sizes."
            )
    own, theirs = _options(begun), _options(taken)
    for part in own:
        if own[part] != theirs[part]:
            raise NacreError(
                f"the networks of the run at {path} compute something else: {part} is {theirs[part]} in them, but "
                f"{own[part]} in the new run's; give both the same settings."
            )
    digest = hashlib.sha256()
    for part, leaf in there.items():
        if leaf is not here[part]:
            digest.update(part.encode() + np.asarray(leaf).tobytes())
    record = {"run": str(path.resolve()), "grad_steps": int(state.grad_steps), "networks_sha256": digest.hexdigest()}
    return Origin(state, record, transfer)


def started_from(state: Any, origin: Origin) -> Any:
    """The state of a run that begins, with the origin's networks; copies, which training may use up."""
    leaves = [leaf for _, leaf in _leaves(origin.transfer(state, origin.state))]
    own = jax.tree.leaves(state)
    taken = [leaf if leaf is before else jnp.array(leaf) for leaf, before in zip(leaves, own, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(state), taken)


def _options(tree: Any, path: str = "") -> dict[str, Any]:
    """What the networks in a tree compute besides their weights, such as 'critics.normalised'; not the precision."""
    if isinstance(tree, eqx.Module):
        fields = {field.name: field.metadata.get("static", False) for field in dataclasses.fields(tree)}
        parts = {name: getattr(tree, name) for name in fields}
        options = {f"{path}{name}": parts[name] for name, static in fields.items() if static and name != "precision"}
        inside = {name: part for name, part in parts.items() if not fields[name]}
    elif isinstance(tree, tuple | list):
        options, inside = {}, dict(zip(getattr(tree, "_fields", map(str, range(len(tree)))), tree, strict=True))
    else:
        options, inside = {}, tree if isinstance(tree, dict) else {}
    for name, part in inside.items():
        options |= _options(part, f"{path}{name}.")
    return options


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in _leaves(tree)}
