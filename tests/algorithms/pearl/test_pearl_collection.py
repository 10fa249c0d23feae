"""PEARL in meta-training: collection."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import (
    ACTION_DIM,
    DRAWN,
    FAMILY,
    GOALS,
    LATENT_DIM,
    OBS_DIM,
    PHASES,
    SMALL,
    Falling,
    Recorded,
    assert_trees_equal,
    change,
    collect,
    collect_recorded,
    copied,
    recording,
    rows,
    sure_encoder,
    with_encoder,
)

from nacre.algorithms import pearl
from nacre.errors import NacreError
from nacre.families.family import TaskSet
from nacre.learning import collection, off_policy
from nacre.learning.buffer_sizes import buffer_sizes
from nacre.learning.collection import Phases
from nacre.learning.replay import PAGE
from nacre.presets.pearl import PearlSettings
from nacre.types import Transition


def test_initial_collection_fills_both_buffers_of_every_task(initial):
    assert initial.env_steps == 60
    for replay in (initial.rl_buffer, initial.context_buffer):
        assert np.asarray(replay.size).tolist() == [20, 20, 20]
    for task in range(3):
        assert_trees_equal(rows(initial.rl_buffer, task), rows(initial.context_buffer, task))


def test_collection_counts_environment_steps_and_fills_the_buffers_by_phase(collected):
    """Three draws of 20 prior, 40 posterior and 20 extra steps; the extra ones go to the RL buffer only."""
    assert collected.after.env_steps - collected.before.env_steps == 3 * (20 + 40 + 20)
    assert np.asarray(collected.after.rl_buffer.size).tolist() == [20 + 2 * 80, 20, 20 + 80]
    assert collected.after.grad_steps == 0 and collected.after.meta_iterations == 0


def test_a_draw_clears_the_context_of_its_task_and_of_no_other(collected):
    assert np.asarray(collected.after.context_buffer.size).tolist() == [60, 20, 60]
    assert_trees_equal(rows(collected.after.context_buffer, 1), rows(collected.before.context_buffer, 1))


def test_a_task_drawn_twice_keeps_the_context_of_its_last_draw_and_all_rl_data(collected):
    rounds = [recorded.transitions for recorded in collected.rounds]

    def of_lanes(rounds: list[Transition], lanes: list[int]) -> Transition:
        parts = [jax.tree.map(lambda x, i=i: x[i], transitions) for transitions in rounds for i in lanes]
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    assert len(rounds) == 4
    context = of_lanes(rounds[:3], [2])
    assert_trees_equal(rows(collected.after.context_buffer, 0), context)
    earlier = rows(collected.before.rl_buffer, 0)
    everything = jax.tree.map(lambda old, new: np.concatenate([old, new]), earlier, of_lanes(rounds, [0, 2]))
    assert_trees_equal(rows(collected.after.rl_buffer, 0), everything)
    assert_trees_equal(rows(collected.after.context_buffer, 2), of_lanes(rounds[:3], [1]))


def test_collected_contexts_are_all_draws_of_a_task_less_the_extra_steps():
    config = change(SMALL, context="collected")
    state = collect(pearl.init(FAMILY, config, seed=0), np.arange(3), Phases(prior=1), config)
    for _ in range(SMALL.iterations):
        before = state
        recorded = collect_recorded(before, config, DRAWN, PHASES)
        state, rounds = recorded.after, [each.transitions for each in recorded.rounds[:3]]
        for task in range(3):
            lanes = np.flatnonzero(np.asarray(DRAWN) == task)
            parts = [rows(recorded.before.context_buffer, task)]
            parts += [jax.tree.map(lambda x, lane=lane: x[lane], each) for each in rounds for lane in lanes]
            everything = jax.tree.map(lambda *x: np.concatenate(x), *parts)
            assert_trees_equal(rows(state.context_buffer, task), everything)
    drawn = np.bincount(DRAWN, minlength=3) * SMALL.iterations
    assert np.asarray(state.context_buffer.size).tolist() == (20 + 60 * drawn).tolist()
    assert np.asarray(state.rl_buffer.size).tolist() == (20 + 80 * drawn).tolist()


@pytest.mark.parametrize("source", ["recent", "collected"])
def test_the_buffers_hold_all_that_a_run_collects_even_where_episodes_end_early(source):
    """Every draw of every iteration is of one task, so that its rings are as long as they can be."""
    family, config = Falling(), change(SMALL, context=source)
    state = collect(pearl.init(family, config, seed=0), np.arange(3), Phases(prior=1), config, family)
    for _ in range(config.iterations):
        state = collect(state, np.full(3, 2), PHASES, config, family)
    for replay in (state.rl_buffer, state.context_buffer):
        assert int(replay.next_page) * PAGE <= len(replay.pool)
        assert (np.asarray(replay.written) == np.asarray(replay.size)).all(), "no ring has wrapped"
    assert int(state.rl_buffer.size.sum()) == int(state.env_steps)
    assert int(state.context_buffer.size[2]) == (60 if source == "recent" else 20 + config.iterations * 3 * 60)


def test_every_draw_acts_in_its_own_task(collected):
    for recorded in collected.rounds:
        np.testing.assert_array_equal(recorded.goal, GOALS["goal"][DRAWN])
        distance = np.linalg.norm(recorded.transitions.next_obs - recorded.goal[:, None], axis=-1)
        np.testing.assert_allclose(recorded.transitions.reward, -distance, rtol=1e-5, atol=1e-6)


def test_first_episode_of_a_posterior_phase_uses_the_prior_and_the_next_the_posterior(collected):
    """Rounds: prior; posterior, first and second; extra, a posterior phase of its own. The posterior is at 0.7."""
    prior, posterior_first, posterior_second, extra_first = (recorded.z for recorded in collected.rounds)
    for z in (prior, posterior_first, extra_first):
        assert (np.abs(z - 0.7) > 1e-3).all()
    np.testing.assert_allclose(posterior_second, 0.7, atol=1e-3)
    every = np.concatenate([z.ravel() for z in (prior, posterior_first, posterior_second, extra_first)])
    assert len(np.unique(every)) == every.size, "z is drawn anew for every draw and episode"


def test_extra_context_is_for_the_encoder_alone_and_the_critics_data_are_all_of_the_posterior(initial):
    """Rounds: prior, into the context; two extra episodes, into the RL buffer, both at 0.7. A fall is made up for."""
    state = with_encoder(initial, sure_encoder(initial.networks.encoder, 0.7))
    phases = Phases(extra_context_prior=1, extra_rl_posterior=2)
    before, after, rounds = collect_recorded(state, SMALL, DRAWN, phases)
    of_prior, *of_posterior = (recorded.z for recorded in rounds)
    assert (np.abs(of_prior - 0.7) > 1e-3).all() and len(of_posterior) == 2
    np.testing.assert_allclose(of_posterior, 0.7, atol=1e-3)
    assert after.env_steps - before.env_steps == 3 * 60
    assert np.asarray(after.rl_buffer.size).tolist() == [20 + 80, 20, 20 + 40]
    assert np.asarray(after.context_buffer.size).tolist() == [20, 20, 20]
    assert_trees_equal(rows(after.context_buffer, 2), jax.tree.map(lambda x: x[1], rounds[0].transitions))
    new = jax.tree.map(lambda x: x[20:], rows(after.rl_buffer, 2))
    expected = [jax.tree.map(lambda x: x[1], recorded.transitions) for recorded in rounds[1:]]
    assert_trees_equal(new, jax.tree.map(lambda *x: np.concatenate(x), *expected))


def test_the_rl_buffer_has_room_for_the_critics_data_alone():
    config = change(SMALL, num_prior_episodes=0, num_posterior_episodes=0, num_extra_context_episodes=3)
    rl, _ = buffer_sizes(FAMILY, config)
    collected = config.iterations * config.num_tasks_sample * 20
    assert rl.total == 3 * 20 + collected * 1 and config.env_steps(FAMILY) == 3 * 20 + collected * 4


def test_episodes_for_the_encoder_alone_leave_some_for_the_critics():
    with pytest.raises(NacreError, match=r"encoder alone.*--num-extra-rl-episodes"):
        change(
            SMALL, num_prior_episodes=0, num_posterior_episodes=0, num_extra_rl_episodes=0, num_extra_context_episodes=2
        )
    with pytest.raises(NacreError, match=r"num_prior_episodes is 0.*or --num-extra-context-episodes"):
        change(SMALL, num_prior_episodes=0)
    for source in ("replay", "batch"):
        with pytest.raises(NacreError, match=rf"context is {source}.*--num-extra-context-episodes 0"):
            change(SMALL, num_extra_context_episodes=2, context=source)


def test_every_draw_infers_its_posterior_from_its_own_context(initial):
    """An encoder whose factor mean is the reward: z is then the mean reward of the draw's own episodes so far."""
    config = change(SMALL, context_batch_size=1000)
    encoder = initial.networks.encoder
    weights, biases = (
        [np.zeros(w.shape, np.float32) for w in encoder.weights],
        [np.zeros(b.shape) for b in encoder.biases],
    )
    weights[0][OBS_DIM + ACTION_DIM, 0] = -1.0  # rewards are negative: relu(-reward)
    weights[1][0, 0] = 1.0
    weights[2][0, :LATENT_DIM] = -1.0
    biases[2][LATENT_DIM:] = -40.0
    layers = tuple(tuple(jnp.asarray(x, jnp.float32) for x in part) for part in (weights, biases))
    encoder = eqx.tree_at(lambda m: (m.weights, m.biases), encoder, layers)

    collected = collect_recorded(with_encoder(initial, encoder), config, DRAWN, PHASES)
    own = [recorded.transitions.reward for recorded in collected.rounds[:2]]
    expected = np.concatenate(own, axis=1).mean(axis=1)
    assert abs(expected[0] - expected[2]) > 0.1, "two draws of the same task, told apart by their data"
    z = collected.rounds[2].z
    np.testing.assert_allclose(z, np.broadcast_to(expected[:, None], z.shape), atol=0.04)


def test_phases_collect_as_many_episodes_as_asked_for(initial):
    after = collect(copied(initial), np.array([1]), Phases(prior=3))
    assert after.env_steps - initial.env_steps == 60
    assert np.asarray(after.context_buffer.size).tolist() == [20, 60, 20]
    assert np.asarray(after.rl_buffer.size).tolist() == [20, 80, 20]


def test_phases_go_on_until_they_have_real_transitions_enough(initial):
    """20 prior and 20 extra steps: of episodes that end at their tenth step it takes two, as padding does not count.

    Three lanes are wanted and four are played, a power of two: what the fourth did is dropped.
    """
    collected = collect_recorded(initial, SMALL, DRAWN, Phases(prior=1, extra_rl_posterior=1), Falling())
    assert [recorded.length.tolist() for recorded in collected.rounds] == [[20, 10, 20, 20], [10]] * 2
    assert collected.after.env_steps - initial.env_steps == 6 * 20
    assert np.asarray(collected.after.rl_buffer.size).tolist() == [20 + 4 * 20, 20, 20 + 2 * 20]
    assert np.asarray(collected.after.context_buffer.size).tolist() == [20, 20, 20]
    fallen = rows(collected.after.context_buffer, 2)
    assert np.flatnonzero(fallen.discount == 0).tolist() == [9, 19]
    assert collected.rounds[2].goal[1, 1] < 0 and collected.rounds[3].goal[0, 1] < 0


def test_collections_of_one_run_use_new_random_numbers(collected, initial):
    once = collected.rounds[0]
    again = collect_recorded(collected.after, SMALL, DRAWN, Phases(prior=1)).rounds[0]
    assert (once.transitions.obs != again.transitions.obs).all()
    assert (once.z != again.z).all()


def first_iteration(config: PearlSettings) -> tuple[pearl.State, pearl.State, list[Recorded]]:
    """(fresh state, state after the first block, rounds of the initial and the first collection), without updates."""
    tasks = TaskSet(GOALS, GOALS, 0)
    start = pearl.init(FAMILY, config, seed=4)
    with recording() as rounds, pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "train", lambda states, procedure, num_updates: (states, [{}]))
        (after,), _ = next(pearl.meta_train(FAMILY, config, tasks, [copied(start)]))
    return start, after, rounds


@pytest.mark.parametrize("num_episodes", [0, 2])
def test_straight_episodes_hold_one_random_action_and_come_first(num_episodes):
    """Initial collection; then straight, prior, posterior (two rounds), extra."""
    num_steps = 20 * num_episodes
    _, after, rounds = first_iteration(change(SMALL, num_straight_episodes=num_episodes))
    held = [bool((t.action == t.action[:, :1]).all()) for t in (recorded.transitions for recorded in rounds)]
    assert held == ([True, True] if num_steps else [False]) + [False] * 4
    assert [len(recorded.length) for recorded in rounds] == [3, *([6] if num_steps else []), 3, 3, 3, 3]
    assert after.env_steps == 3 * (20 + num_steps + 20 + 40 + 20)
    drawn = {tuple(goal) for goal in rounds[-1].goal}
    sizes = [20 if tuple(goal) not in drawn else num_steps + 60 for goal in GOALS["goal"]]
    assert np.asarray(after.context_buffer.size).tolist() == sizes
    assert int(after.rl_buffer.size.sum()) == after.env_steps, "into both buffers"
    if num_steps:
        actions = np.concatenate([recorded.transitions.action[:, 0] for recorded in rounds[:2]])
        assert len(np.unique(actions)) == actions.size, "every episode and every axis has an action of its own"


def test_straight_actions_are_the_tanh_of_standard_normals_and_ask_no_policy():
    agent = collection._straight_agent(ACTION_DIM)
    memory = agent.begin(None, {"goal": np.zeros((20_000, 2))}, jax.random.key(0))
    action, after = agent.act(None, memory, np.ones((20_000, 2)), jax.random.key(1), True)
    np.testing.assert_array_equal(after, memory)
    noise = np.arctanh(np.asarray(action, np.float64))
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.03)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.03)


def test_initial_collection_in_groups_of_tasks_reaches_every_task_once(monkeypatch):
    """At most 20 environment steps side by side: one task at a time."""
    monkeypatch.setattr(collection, "INITIAL_STEPS", 20)
    _, after, rounds = first_iteration(change(SMALL, num_posterior_episodes=0, num_extra_rl_episodes=0))
    assert len(rounds) == 3 + 1
    np.testing.assert_array_equal(np.concatenate([recorded.goal for recorded in rounds[:3]]), GOALS["goal"])
    starts = np.concatenate([recorded.transitions.obs[:, 0] for recorded in rounds])
    assert len(np.unique(starts)) == starts.size, "every group draws its own random numbers"
    assert after.env_steps == 3 * 20 + 3 * 20
    drawn = [(GOALS["goal"] == goal).all(axis=1).argmax() for goal in rounds[3].goal]
    assert np.asarray(after.rl_buffer.size).tolist() == (20 + 20 * np.bincount(drawn, minlength=3)).tolist()
    assert np.asarray(after.context_buffer.size).tolist() == [20, 20, 20]
