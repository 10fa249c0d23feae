"""The reference's networks as nacre's, and back; what tests of its numbers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms import pearl
from nacre.learning import soft_actor_critic
from nacre.learning.networks import MLP
from nacre.presets.pearl import PearlSettings

GOLDEN = Path(__file__).parent / "golden"


TOLERANCE = 1e-10


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def under(data: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays below this prefix, by the rest of their name."""
    return {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}


def assert_close(ours: Any, golden: np.ndarray, name: str, tolerance: float = TOLERANCE) -> None:
    ours = np.asarray(ours)
    assert ours.shape == golden.shape, f"{name}: {ours.shape} instead of {golden.shape}"
    error = np.max(np.abs(ours - golden) / np.maximum(1.0, np.abs(golden)), initial=0.0)
    assert error <= tolerance, f"{name}: off by {error:.3g}"


def mlp_layers(params: dict[str, np.ndarray], heads: tuple[str, ...] = ("last_fc",)) -> tuple[list, list]:
    """Weights [in, out] and biases of one network of the reference; several linear heads stand side by side."""
    hidden = sorted({key.split(".")[0] for key in params if key.startswith("fc")})
    weights = [params[f"{layer}.weight"].T for layer in hidden]
    biases = [params[f"{layer}.bias"] for layer in hidden]
    weights.append(np.concatenate([params[f"{head}.weight"].T for head in heads], axis=1))
    biases.append(np.concatenate([params[f"{head}.bias"] for head in heads]))
    return weights, biases


POLICY_HEADS = ("last_fc", "last_fc_log_std")


def with_layers(template: MLP, layers: tuple[list, list], dtype: Any) -> MLP:
    weights, biases = (tuple(jnp.asarray(x, dtype) for x in part) for part in layers)
    assert [w.shape for w in template.weights] == [w.shape for w in weights]
    assert [b.shape for b in template.biases] == [b.shape for b in biases]
    return eqx.tree_at(lambda mlp: (mlp.weights, mlp.biases), template, (weights, biases))


def golden_networks(
    data: dict[str, np.ndarray], prefix: str, config: PearlSettings, dtype: Any
) -> soft_actor_critic.Networks:
    """The six networks below this prefix."""
    dims = (int(data["config/obs_dim"]), int(data["config/action_dim"]))
    template = jax.eval_shape(lambda key: pearl.init_learner(*dims, config, key)[0], jax.random.key(0))

    def fill(mlp: MLP, net: str, heads: tuple[str, ...] = ("last_fc",)) -> MLP:
        return with_layers(mlp, mlp_layers(under(data, f"{prefix}/{net}/"), heads), dtype)

    policy_mlp = fill(template.policy.mlp, "policy", POLICY_HEADS)
    return soft_actor_critic.Networks(
        encoder=fill(template.encoder, "context_encoder"),
        policy=eqx.tree_at(lambda policy: policy.mlp, template.policy, policy_mlp),
        critics=(fill(template.critics[0], "qf1"), fill(template.critics[1], "qf2")),
        value=fill(template.value, "vf"),
        target_value=fill(template.target_value, "target_vf"),
    )


def assert_mlp(ours: MLP, golden: dict[str, np.ndarray], name: str, heads=("last_fc",), tolerance=TOLERANCE) -> None:
    """Parameters or gradients of one network against the reference's."""
    assert golden, f"no arrays for {name}"
    weights, biases = mlp_layers(golden, heads)
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        assert_close(ours.weights[layer], weight, f"{name} weight {layer}", tolerance)
        assert_close(ours.biases[layer], bias, f"{name} bias {layer}", tolerance)


def assert_networks(
    ours: soft_actor_critic.Networks, data: dict[str, np.ndarray], prefix: str, tolerance=TOLERANCE
) -> None:
    for net, mlp, heads in (
        ("context_encoder", ours.encoder, ("last_fc",)),
        ("policy", ours.policy.mlp, POLICY_HEADS),
        ("qf1", ours.critics[0], ("last_fc",)),
        ("qf2", ours.critics[1], ("last_fc",)),
        ("vf", ours.value, ("last_fc",)),
        ("target_vf", ours.target_value, ("last_fc",)),
    ):
        assert_mlp(mlp, under(data, f"{prefix}/{net}/"), f"{prefix}/{net}", heads, tolerance)
