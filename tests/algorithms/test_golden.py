"""The reference implementation's numbers, in float64: posterior, outputs, losses, gradients, five training steps.

golden/README.md says what the arrays are. Names of arrays are the reference's; networks are mapped to ours below.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_networks import (
    POLICY_HEADS,
    assert_close,
    assert_mlp,
    assert_networks,
    golden_networks,
    load,
    mlp_layers,
    under,
    with_layers,
)

from nacre.algorithms import pearl
from nacre.learning import soft_actor_critic
from nacre.learning.networks import MLP, sample_action
from nacre.presets.pearl import PearlSettings
from nacre.types import Belief, Transition

critic_loss = functools.partial(soft_actor_critic.critic_loss, objective=pearl.OBJECTIVE)


update = functools.partial(soft_actor_critic.update, objective=pearl.OBJECTIVE)


CASES = ("dense", "next_obs", "deterministic")


FLOOR = 1e-7


QUICK = {"xla_backend_optimization_level": 0}
"""Compiles in half the time; the mathematics is the same."""


# ----------------------------------------------------------------------------------------------------------------------
# Five steps of each case


def settings(data: dict[str, np.ndarray]) -> PearlSettings:
    c = {key: value.item() for key, value in under(data, "config/").items()}
    assert c["policy_lr"] == c["qf_lr"] == c["vf_lr"] == c["context_lr"]
    return PearlSettings(
        meta_batch=int(c["num_tasks"]), batch_size=int(c["batch_size"]), context_batch_size=int(c["context_size"]),
        latent_dim=int(c["latent_dim"]), hidden_dim=int(c["hidden_width"]), num_hidden_layers=int(c["hidden_layers"]),
        encoder_hidden_dim=int(c["encoder_width"]), reward_scale=c["reward_scale"], discount=c["discount"],
        kl_weight=c["kl_lambda"], soft_target_tau=c["soft_target_tau"], learning_rate=c["policy_lr"],
        policy_mean_reg_weight=c["policy_mean_reg_weight"], policy_std_reg_weight=c["policy_std_reg_weight"],
        use_information_bottleneck=bool(c["use_information_bottleneck"]),
        use_next_obs_in_context=bool(c["use_next_obs_in_context"]),
    )  # fmt: skip


class StepInputs(NamedTuple):
    batch: Transition
    context: Transition
    noise: pearl.Noise


def step_inputs(data: dict[str, np.ndarray], step: int, config: PearlSettings, dtype: Any) -> StepInputs:
    def get(name: str) -> jax.Array:
        return jnp.asarray(data[f"step{step}/{name}"], dtype)

    def transitions(which: str) -> Transition:
        reward = get(f"{which}/rewards")[..., 0]
        discount = 1 - get(f"{which}/terminals")[..., 0]
        return Transition(
            get(f"{which}/obs"), get(f"{which}/actions"), reward, reward, discount, get(f"{which}/next_obs")
        )

    batch = transitions("batch")
    # Without the bottleneck the reference draws no z; noise there must make no difference.
    z_shape = (config.meta_batch, config.latent_dim)
    z_noise = get("noise/z") if config.use_information_bottleneck else jnp.full(z_shape, 3.0, dtype)
    return StepInputs(
        batch, transitions("context"), pearl.Noise(z_noise, get("noise/action").reshape(batch.action.shape))
    )


class Examined(NamedTuple):
    outputs: dict[str, jax.Array]
    losses: dict[str, jax.Array]
    gradients: dict[str, MLP]


def examine(
    networks: soft_actor_critic.Networks, new_critics: Any, inputs: StepInputs, config: PearlSettings
) -> Examined:
    """Everything in one step that public functions give, under the reference's names; rows are flat, task-major."""
    batch, context, noise = inputs
    encoder, old_critics = networks.encoder, networks.critics
    bottleneck = config.use_information_bottleneck

    def column(x: jax.Array) -> jax.Array:
        return x.reshape(-1, 1)

    def flat(x: jax.Array) -> jax.Array:
        return x.reshape(-1, x.shape[-1])

    # The belief and z.
    seen = [context.obs, context.action, context.reward[..., None]]
    raw = encoder(jnp.concatenate(seen + ([context.next_obs] if config.use_next_obs_in_context else []), axis=-1))
    factors = pearl.encode(encoder, context, config)
    belief = pearl.infer_posterior(encoder, context, config)
    (_, (z, critic_metrics)), critic_gradient = jax.value_and_grad(critic_loss, has_aux=True)(
        (encoder, old_critics), networks, batch, context, noise, config
    )
    outputs = {"enc_raw": raw, "z_mean": belief.mean, "z": z[:, 0]}
    losses = {"qf_loss": critic_metrics["critic_loss"]}
    gradients = {"context_encoder": critic_gradient[0], "qf1": critic_gradient[1][0], "qf2": critic_gradient[1][1]}
    if bottleneck:

        def kl_loss(encoder: MLP) -> jax.Array:
            return config.kl_weight * pearl.kl_to_prior(pearl.infer_posterior(encoder, context, config))

        outputs["enc_mean"], outputs["enc_var"] = factors.weighted_mean / factors.precision, 1 / factors.precision
        outputs["z_var"] = belief.variance
        losses["kl"] = critic_metrics["kl"]
        losses["kl_loss"], gradients["kl"] = jax.value_and_grad(kl_loss)(encoder)

    # Predictions; the Bellman target of every row is what the critic loss reports for that row alone.
    q1, q2 = soft_actor_critic.q_values(old_critics, batch.obs, batch.action, z)
    outputs |= {"q1_pred": column(q1), "q2_pred": column(q2)}
    outputs |= {
        "v_pred": column(networks.value(batch.obs, z)),
        "target_v": column(networks.target_value(batch.next_obs, z)),
    }

    def row_target(row: Transition, context: Transition, z_noise: jax.Array) -> jax.Array:
        one_row = jax.tree.map(lambda x: x[None, None], row)
        one_task = jax.tree.map(lambda x: x[None], context)
        one_noise = noise._replace(z=z_noise[None])
        args = ((encoder, old_critics), networks, one_row, one_task, one_noise, config)
        return critic_loss(*args)[1][1]["q_target_mean"]

    targets = jax.vmap(jax.vmap(row_target, in_axes=(0, None, None)))(batch, context, noise.z)
    outputs["q_target"] = column(targets)

    # Policy and V: old policy, V and z, new critics.
    policy = networks.policy(batch.obs, z)
    action, log_pi = sample_action(policy, noise.action)
    q1_new, q2_new = soft_actor_critic.q_values(new_critics, batch.obs, action, z)
    policy_args = (networks.policy, new_critics, batch.obs, z, noise.action)
    (policy_loss, (v_target, _)), policy_gradient = jax.value_and_grad(soft_actor_critic.policy_loss, has_aux=True)(
        *policy_args, config
    )
    (value_loss, _), value_gradient = jax.value_and_grad(soft_actor_critic.value_loss, has_aux=True)(
        networks.value, v_target, batch.obs, z
    )
    outputs |= {"policy_mean": flat(policy.mean), "policy_log_std": flat(policy.log_std)}
    outputs |= {"new_actions": flat(action), "pre_tanh": flat(jnp.arctanh(action)), "log_pi": column(log_pi)}
    outputs |= {"q1_new": column(q1_new), "q2_new": column(q2_new), "v_target": column(v_target)}
    outputs["min_q_new"] = column(v_target + log_pi)
    gradients |= {"policy": policy_gradient.mlp, "vf": value_gradient}

    def policy_loss_with(mean_weight: float, std_weight: float) -> jax.Array:
        weights = {"policy_mean_reg_weight": mean_weight, "policy_std_reg_weight": std_weight}
        return soft_actor_critic.policy_loss(*policy_args, PearlSettings(**(vars(config) | weights)))[0]

    main = policy_loss_with(0.0, 0.0)
    losses |= {
        "vf_loss": value_loss,
        "policy_loss": policy_loss,
        "policy_main": main,
        "policy_mean_reg": policy_loss_with(config.policy_mean_reg_weight, 0.0) - main,
        "policy_std_reg": policy_loss_with(0.0, config.policy_std_reg_weight) - main,
    }
    return Examined(outputs, losses, gradients)


class Run(NamedTuple):
    """A case and what nacre makes of its inputs. networks[k] are those before step k."""

    data: dict[str, np.ndarray]
    config: PearlSettings
    networks: list[soft_actor_critic.Networks]
    metrics: list[dict[str, np.ndarray]]
    examined: list[Examined]


def five_steps(name: str, dtype: Any, *, examining: bool) -> Run:
    data = load(name)
    config = settings(data)
    networks = [golden_networks(data, "init", config, dtype)]
    adam = soft_actor_critic.adam(config)
    start = networks[0]
    optimisers = soft_actor_critic.Optimisers(
        adam.init((start.encoder, start.critics)), adam.init(start.policy), adam.init(start.value)
    )
    take_step = jax.jit(lambda *args: update(*args, config), compiler_options=QUICK if examining else None)
    look = jax.jit(lambda *args: examine(*args, config), compiler_options=QUICK)
    metrics, examined = [], []
    for step in range(int(data["config/num_steps"])):
        inputs = step_inputs(data, step, config, dtype)
        after, optimisers, step_metrics = take_step(networks[-1], optimisers, *inputs)
        if examining:
            examined.append(look(networks[-1], after.critics, inputs))
        networks.append(after)
        metrics.append(step_metrics)
    return Run(data, config, *jax.device_get((networks, metrics, examined)))


@pytest.fixture(scope="module", params=CASES)
def run(request) -> Run:
    with jax.enable_x64(True):
        return five_steps(request.param, jnp.float64, examining=True)


def test_golden_outputs_of_the_first_step(run):
    golden = under(run.data, "step0/out/")
    ours = run.examined[0].outputs
    assert set(ours) == set(golden)
    for name, array in golden.items():
        assert_close(ours[name], array, name)


def test_golden_losses_of_every_step(run):
    assert len(run.examined) == 5
    for step, examined in enumerate(run.examined):
        golden = under(run.data, f"step{step}/loss/")
        assert golden.pop("policy_preact_reg") == 0.0
        assert set(examined.losses) == set(golden)
        for name, array in golden.items():
            assert_close(examined.losses[name], array, f"step {step} {name}")


def test_golden_metrics_of_the_update_are_the_losses(run):
    names = {"critic_loss": "qf_loss", "value_loss": "vf_loss", "policy_loss": "policy_loss"}
    if run.config.use_information_bottleneck:
        names["kl"] = "kl"
    for step, metrics in enumerate(run.metrics):
        for ours, golden in names.items():
            assert_close(metrics[ours], run.data[f"step{step}/loss/{golden}"], f"step {step} {ours}")
        if not run.config.use_information_bottleneck:
            assert metrics["kl"] == 0.0
    outputs = under(run.data, "step0/out/")
    assert_close(run.metrics[0]["q_target_mean"], outputs["q_target"].mean(), "q_target_mean")
    assert_close(run.metrics[0]["q_mean"], outputs["q1_pred"].mean(), "q_mean")
    assert_close(run.metrics[0]["log_pi"], outputs["log_pi"].mean(), "log_pi")
    assert_close(run.metrics[0]["policy_std"], np.exp(outputs["policy_log_std"]).mean(), "policy_std")
    assert_close(run.metrics[0]["posterior_mean_abs"], np.abs(outputs["z_mean"]).mean(), "posterior_mean_abs")


def test_golden_beliefs_of_every_step(run):
    for step, examined in enumerate(run.examined):
        for name in ("z_mean", "z_var", "z") if run.config.use_information_bottleneck else ("z_mean", "z"):
            assert_close(examined.outputs[name], run.data[f"step{step}/out/{name}"], f"step {step} {name}")


def test_golden_gradients_of_the_first_step(run):
    gradients = run.examined[0].gradients
    for net in ("context_encoder", "qf1", "qf2", "vf", "policy"):
        heads = POLICY_HEADS if net == "policy" else ("last_fc",)
        assert_mlp(gradients[net], under(run.data, f"step0/grad/{net}/"), f"gradient of {net}", heads)


def test_golden_gradient_of_the_kl_alone(run):
    golden = under(run.data, "step0/grad_kl/context_encoder/")
    assert bool(golden) == run.config.use_information_bottleneck
    if golden:
        assert_mlp(run.examined[0].gradients["kl"], golden, "gradient of the KL")


def test_golden_parameters_after_the_first_step(run):
    assert_networks(run.networks[1], run.data, "step0/params")


def test_golden_parameters_after_five_steps(run):
    assert_networks(run.networks[5], run.data, "final")


@pytest.mark.parametrize("case", [CASES[0], *(pytest.param(case, marks=pytest.mark.slow) for case in CASES[1:])])
def test_golden_update_in_float32_agrees_to_rounding(case):
    run = five_steps(case, jnp.float32, examining=False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(run.networks[5]))
    names = {"critic_loss": "qf_loss", "value_loss": "vf_loss", "policy_loss": "policy_loss"}
    for step, metrics in enumerate(run.metrics):
        for ours, golden in names.items():
            np.testing.assert_allclose(metrics[ours], run.data[f"step{step}/loss/{golden}"], rtol=1e-4)
    # Five steps of 3e-4 move a parameter by up to 1.5e-3: 1e-6 is below a thousandth of that.
    assert_networks(run.networks[5], run.data, "final", tolerance=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# The posterior alone


def as_context(rows: np.ndarray, obs_dim: int, action_dim: int) -> Transition:
    """Encoder inputs [n, obs_dim + action_dim + 1] as transitions of which the encoder sees nothing else."""
    obs, action, reward = np.split(jnp.asarray(rows), [obs_dim, obs_dim + action_dim], axis=-1)
    reward = reward[:, 0]
    return Transition(obs, action, reward, jnp.full_like(reward, jnp.nan), jnp.zeros_like(reward), obs * jnp.nan)


@pytest.mark.parametrize("index", range(5))
def test_golden_posterior_of_contexts_of_many_lengths(index, float64):
    data = load("posterior")
    golden = under(data, f"context{index}/")
    length, in_dim = golden["input"].shape
    assert length == data["lengths"][index]
    template = jax.eval_shape(lambda key: MLP(in_dim, 16, 3, 10, 3e-3, key=key), jax.random.key(0))
    encoder = with_layers(template, mlp_layers(under(data, "encoder/")), None)
    config, context = PearlSettings(latent_dim=5), as_context(golden["input"], 20, 6)

    def infer(encoder: MLP, context: Transition) -> tuple[pearl.Factors, Belief]:
        return pearl.encode(encoder, context, config), pearl.infer_posterior(encoder, context, config)

    factors, belief = jax.jit(infer, compiler_options=QUICK)(encoder, context)
    assert_close(1 / factors.precision, golden["factor_var"], "factor_var")
    assert_close(factors.weighted_mean / factors.precision, golden["factor_mean"], "factor_mean")
    assert_close(belief.mean, golden["mean"], "mean")
    assert_close(belief.variance, golden["var"], "var")
    assert_close(pearl.kl_to_prior(belief), golden["kl"], "kl")


def test_golden_variance_floor(float64):
    """Made-up factors reach `encode` through a linear encoder that hands on its input."""
    golden = under(load("posterior"), "floor/")
    mean, variance = golden["factor_mean"], golden["factor_var"]
    assert (variance < FLOOR).sum() == 4 and (variance == 0.0).any()
    with np.errstate(divide="ignore"):
        before_softplus = np.maximum(np.log(np.expm1(variance)), -800.0)
    latent_dim = mean.shape[-1]
    linear = MLP(2 * latent_dim + 2, 1, 0, 2 * latent_dim, 1.0, key=jax.random.key(0))
    identity = np.eye(2 * latent_dim + 2, 2 * latent_dim)
    linear = with_layers(linear, ([identity], [np.zeros(2 * latent_dim)]), None)
    rows = np.concatenate([mean, before_softplus, np.zeros((len(mean), 2))], axis=1)

    belief = pearl.infer_posterior(linear, as_context(rows, 2 * latent_dim, 1), PearlSettings(latent_dim=latent_dim))
    assert_close(belief.mean, golden["mean"], "mean")
    assert_close(belief.variance / FLOOR, golden["var"] / FLOOR, "variance")
