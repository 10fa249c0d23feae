"""benchmarks/: tables of runs, runs of tables, and the ablations of preset `fast`."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import nacre
from nacre.algorithms import pearl
from nacre.families.catalog import FAMILIES
from nacre.report.evaluated_runs import read_run
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.loading import fresh
from nacre.runs.tables import EVAL_COLUMNS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import ablation
import agreement
import beliefs
import contexts
import gather
import lines
import restore
import signs
import six_domains


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_departure_of_fast_is_taken_back_by_exactly_one_line(family: str):
    fast, paper = (resolve("pearl", family, preset).settings for preset in ("fast", "paper"))
    departing = {name for name in vars(fast) if getattr(fast, name) != getattr(paper, name)} - set(ablation.LOOP)
    taken_back = [name for fields in ablation.departures(family).values() for name in fields]
    assert sorted(taken_back) == sorted(departing)
    for line, fields in ablation.departures(family).items():
        settings = resolve("pearl", family, "fast", **fields).settings  # a possible combination
        assert all(getattr(settings, name) == getattr(paper, name) for name in fields), line


def a_run(path: Path, **fields: Any) -> RunDirectory:
    """A run that was never trained, with one complete evaluation whose returns count up from 0."""
    run = RunDirectory.create(path, resolve("pearl", "point-robot", "smoke", **fields))
    settings, counter = run.experiment.settings, itertools.count()
    trials = itertools.product(range(settings.num_test_tasks), range(settings.num_evaluation_repeats))
    rows = [
        (40, 10, 1.5, "test", task, repeat, episode + 1, float(next(counter)))
        for task, repeat in trials
        for episode in range(settings.num_evaluation_episodes)
    ]
    with (run.path / "eval.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([EVAL_COLUMNS, *rows])
    return run


def test_a_table_gathered_from_runs_restores_to_runs_with_the_same_evaluations(tmp_path, monkeypatch):
    runs = [a_run(tmp_path / f"run-{seed}", seed=seed) for seed in (3, 4)]
    runs.append(a_run(tmp_path / "changed", seed=4, kl_weight=0.5, task_seed=7, encoder="recurrent", iterations=3))
    table = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["gather.py", *(str(run.path) for run in runs), "-o", str(table)])
    gather.main()
    for run, restored in zip(runs, restore.restore(table, tmp_path / "out"), strict=True):
        assert (restored / "eval.csv").read_text() == (run.path / "eval.csv").read_text()
        assert RunDirectory(restored).experiment == run.experiment
        np.testing.assert_array_equal(read_run(restored).test.scores, read_run(run.path).test.scores)


def test_a_table_from_before_tables_said_what_was_changed_restores_too(tmp_path, monkeypatch):
    run, table, older = a_run(tmp_path / "run", seed=4), tmp_path / "table.csv", tmp_path / "older.csv"
    (run.path / "eval.csv").open("a").write("40,10,1.5,train,0,0,1,5\n")
    monkeypatch.setattr(sys, "argv", ["gather.py", str(run.path), "-o", str(table), "--split", "test"])
    gather.main()
    with table.open() as handle:
        rows = list(csv.DictReader(handle))
    with older.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, [name for name in rows[0] if name != "changed"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (restored,) = restore.restore(older, tmp_path / "out")
    assert RunDirectory(restored).experiment == run.experiment
    text = (restored / "eval.csv").read_text()
    assert "test" in text and "train" not in text


def test_a_table_of_means_has_a_row_for_each_episode_and_is_not_restored(tmp_path, monkeypatch):
    run, table = a_run(tmp_path / "run"), tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["gather.py", str(run.path), "-o", str(table), "--means"])
    gather.main()
    with table.open() as handle:
        rows = list(csv.DictReader(handle))
    returns = read_run(run.path).test.returns
    assert [row["episode"] for row in rows] == [str(n + 1) for n in range(returns.shape[-1])]
    np.testing.assert_allclose([float(row["return"]) for row in rows], returns[0].mean(axis=(0, 1)), rtol=1e-5)
    with pytest.raises(SystemExit, match="has means over tasks"):
        restore.restore(table, tmp_path / "out")


def written(monkeypatch: pytest.MonkeyPatch, table: Path, *named: str) -> list[dict[str, str]]:
    monkeypatch.setattr(sys, "argv", ["lines.py", str(table), *named])
    lines.main()
    with table.open() as handle:
        return list(csv.DictReader(handle))


def test_a_table_of_lines_has_the_means_of_every_evaluation_and_keeps_its_other_lines(tmp_path, monkeypatch):
    run, table = a_run(tmp_path / "run"), tmp_path / "table.csv"
    (first,) = written(monkeypatch, table, f"ant-dir, pearl={run.path}")
    means = read_run(run.path).test.returns[0].mean(axis=(0, 1))
    assert (float(first["first_episode"]), float(first["scored_episode"])) == (means[0], means[-1])
    assert (first["env_steps"], first["grad_steps"]) == ("40", "10")
    both = written(monkeypatch, table, f"ant-dir, rl2={run.path}")
    assert both == [first, first | {"line": "ant-dir, rl2"}]
    assert written(monkeypatch, table, f"ant-dir, rl2={run.path}") == both  # replaced, not added
    with pytest.raises(SystemExit, match="two runs have the same line"):
        written(monkeypatch, table, f"ant-dir, rl2={run.path}", f"ant-dir, rl2={run.path}")
    table.write_text("line,seed\nant-dir,0\n")
    with pytest.raises(SystemExit, match=r"has the columns \['line', 'seed'\]"):
        written(monkeypatch, table, f"ant-dir, pearl={run.path}")


def test_the_six_domains_are_drawn_from_tables_and_their_seeds_summed_up(tmp_path, monkeypatch, capsys):
    tables = [tmp_path / f"{seed}.csv" for seed in range(2)]
    for table, last in zip(tables, (3.0, 5.0), strict=True):
        rows = [
            ("ant-dir, pearl", steps, steps, 1.0, 0.0, score) for steps, score in ((10, 0.0), (20, last), (30, last))
        ]
        with table.open("w", newline="") as handle:
            csv.writer(handle).writerows([lines.COLUMNS, *rows, ("ant-dir, random", 0, 1, 1.0, 0.0, -1.0)])
    monkeypatch.setattr(sys, "argv", ["six_domains.py", str(tmp_path / "six.png"), *map(str, tables)])
    six_domains.main()
    assert (tmp_path / "six.png").stat().st_size > 10_000
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `ant-dir`")]
    assert told.startswith("| `ant-dir` | 2.667 (2 to 3.333), 2, 0.00M |") and " | -1 (-1 to -1), 2," in told
    with pytest.raises(SystemExit, match="named twice"):
        six_domains.read([tables[0], tables[0]])
    tables[1].write_text(tables[1].read_text().replace("ant-dir, pearl", "ant-dir, PEARL"))
    with pytest.raises(SystemExit, match="no family and method of the figure"):
        six_domains.read(tables)


def test_seeds_of_unequal_length_are_not_summed_up(tmp_path):
    for seed, number in ((0, 2), (1, 3)):
        with (tmp_path / f"{seed}.csv").open("w", newline="") as handle:
            rows = [("ant-goal, rl2", steps, steps, 1.0, 0.0, 1.0) for steps in range(1, number + 1)]
            csv.writer(handle).writerows([lines.COLUMNS, *rows])
    with pytest.raises(SystemExit, match="ant-goal, rl2 have unequal numbers of evaluations"):
        six_domains.read([tmp_path / "0.csv", tmp_path / "1.csv"])


def test_a_table_of_more_updates_than_its_preset_makes_now_is_refused(tmp_path, monkeypatch):
    run = a_run(tmp_path / "run")
    (run.path / "eval.csv").write_text((run.path / "eval.csv").read_text().replace(",10,", ",1000,"))
    table = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["gather.py", str(run.path), "-o", str(table)])
    gather.main()
    with pytest.raises(SystemExit, match="more updates of point-robot than preset smoke makes now"):
        restore.restore(table, tmp_path / "out")


def test_a_table_of_something_else_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("line,fields,updates,env_steps,seconds,score\nfast,,1,2,3,4\n")
    with pytest.raises(SystemExit, match="no table of evaluations"):
        restore.restore(table, tmp_path / "out")


def test_ablations_sum_up_what_is_there_and_refuse_another_run_in_a_lines_place(tmp_path, capsys):
    lines = ablation.departures("point-robot")
    for line in ("fast", "discount"):
        path = tmp_path / "point-robot" / line
        chosen = resolve("pearl", "point-robot", "fast", seed=20, iterations=8, **lines[line])
        RunDirectory.create(path, chosen)
    returns = [
        (2, 10, 1, "test", 0, 0, 2, -9),
        (2, 10, 1, "test", 0, 0, 3, -4),
        (2, 10, 1, "test", 1, 0, 3, -8),
        (2, 10, 1, "test", 0, 0, 1, -12),
        (3, 20, 2, "test", 0, 0, 1, -99),
    ]  # the last was torn by a kill
    with (tmp_path / "point-robot" / "fast" / "eval.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([EVAL_COLUMNS, *returns])
    ablation.main(["point-robot", "--out", str(tmp_path), "--only", "fast", "discount"])
    header, fast, discount = capsys.readouterr().out.splitlines()
    assert (header, fast) == ("line,fields,updates,env_steps,seconds,score,first", "fast,,10,2,1,-6.0,-12.0")
    assert discount == "discount,discount=0.99,,,,,"
    with pytest.raises(SystemExit, match="other settings than this one"):
        ablation.main(["point-robot", "--out", str(tmp_path), "--only", "fast", "--seed", "21"])
    with pytest.raises(SystemExit):
        ablation.main(["point-robot", "--out", str(tmp_path), "--only", "latent-dim"])


def test_a_signal_ends_the_ablation_and_not_only_its_line(tmp_path, monkeypatch):
    def stopped(experiments, paths, **_):
        RunDirectory.create(paths[0], experiments[0])

    monkeypatch.setattr(ablation.trainer, "train", stopped)
    with pytest.raises(SystemExit, match=r"stopped; remove .*fast before"):
        ablation.main(["point-robot", "--out", str(tmp_path), "--only", "fast", "discount"])
    assert not (tmp_path / "point-robot" / "discount").exists()


def test_signs_set_a_familys_runs_beside_random_actions_on_the_same_tasks(tmp_path, capsys, monkeypatch):
    def of_six_test_tasks(*names: str, **settings: Any) -> Any:
        return resolve(*names, **settings | {"num_test_tasks": 6})

    monkeypatch.setattr(signs, "resolve", of_six_test_tasks)
    folder = tmp_path / "cheetah-vel"
    RunDirectory.create(folder / "pearl", of_six_test_tasks("pearl", "cheetah-vel", "fast", seed=30, iterations=8))
    returns = [(2, 10, 1, "test", task, 0, *of) for task, of in enumerate(((1, -90), (3, -60), (1, -80), (3, -40)))]
    with (folder / "pearl" / "eval.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([EVAL_COLUMNS, *returns])
    signs.main(["--out", str(tmp_path), "--families", "cheetah-vel"])
    header, row = capsys.readouterr().out.splitlines()
    assert header == "family,updates,env_steps,seconds,score,first,random,still" and row.startswith(
        "cheetah-vel,10,2,1,-50.0,-85.0,-"
    )
    pearl, *others = (RunDirectory(folder / name) for name in ("pearl", "random", "still"))
    for run, score in zip(others, row.split(",")[-2:], strict=True):
        speeds = [one.experiment.draw_tasks().test["velocity"] for one in (pearl, run)]
        np.testing.assert_array_equal(*speeds)
        assert float(score) == round(float(read_run(run.path).test.scores[-1]), 1) < -100
    # Who stands still misses the wanted speed by all of it, 200 times.
    np.testing.assert_allclose(float(score), -200 * speeds[0].mean(), rtol=0.02)


def test_beliefs_of_a_run_are_summed_up_and_other_methods_refused(smoke_run, tmp_path, capsys, monkeypatch):
    path = smoke_run("point-robot")
    monkeypatch.setattr("sys.argv", ["beliefs.py", str(path)])
    beliefs.main()
    row, *more = csv.DictReader(capsys.readouterr().out.splitlines())
    assert not more and int(row["updates"]) == nacre.load(path).grad_steps
    goals = nacre.load(path).tasks.train["goal"]
    assert float(row["error_without_z_train"]) == pytest.approx(goals.var(axis=0).sum(), abs=0.01)
    assert 0 <= float(row["way_of_first_episode"]) < 20 * 0.1 * np.sqrt(2), "no farther than a point goes"
    other = RunDirectory.create(tmp_path / "oracle", resolve("oracle", "point-robot", "smoke"))
    monkeypatch.setattr("sys.argv", ["beliefs.py", str(other.path)])
    with pytest.raises(SystemExit, match="no run of PEARL"):
        beliefs.main()


def test_a_probe_finds_what_z_holds_and_nothing_else():
    z = np.random.default_rng(1).normal(size=(400, 2))
    noise = np.random.default_rng(2).normal(size=(300, 1))
    held, lost = beliefs.Probe(z[:300], np.sin(z[:300])), beliefs.Probe(z[:300], noise)
    assert beliefs.squared(held(z[300:]) - np.sin(z[300:])) < 0.01
    assert beliefs.squared(lost(z[300:])) < 0.5


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PEARL on cheetah-vel at its beginning."""
    run = RunDirectory.create(
        tmp_path_factory.mktemp("untrained") / "run", resolve("pearl", "cheetah-vel", "smoke", seed=0)
    )
    Checkpoints(run.checkpoints).save(0, fresh(run))
    return run.path


def test_an_exported_agent_is_compared_with_its_run_over_whole_trials(smoke_run, capsys):
    agreement.main([str(smoke_run("point-robot")), "--trials", "2", "--first", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == 2 and found["steps"] % (2 * 20) == 0
    assert found["share_apart"] == 0 and 0 < found["action"] < 1e-5 < found["std_of_actions"]


@pytest.mark.slow
def test_contexts_are_learnt_by_regression_on_the_true_speed(untrained):
    """What is always 1.5 m/s is 0.75 m/s off on the average."""
    agent = nacre.load(untrained)
    family, config = agent.experiment.family, agent.experiment.settings
    speed = np.linspace(0.0, 3.0, 20)
    seen = contexts.play(agent, speed, 2, jax.random.key(0), explore=True)
    assert seen.shape == (20, 400, family.obs_dim + family.action_dim + 1)
    encoder = pearl.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(2))[0].encoder

    def error(encoder: Any) -> float:
        found = np.asarray(contexts.infer(encoder, seen, config).mean)[:, 0] * contexts.SCALE + contexts.CENTRE
        return float(np.abs(found - speed).mean())

    learnt = contexts.fit(contexts.Way(20, 2, 400, steps=500), encoder, config, seen, speed)
    assert error(learnt) < 0.3 < 0.6 < error(encoder)


def test_contexts_prints_a_row_for_every_way_and_refuses_other_runs(untrained, smoke_run, capsys):
    ways = (contexts.Way(4, 1, 200, steps=2), contexts.Way(4, 2, 128, in_order=True, steps=1))
    contexts.main([str(untrained)], ways, num_test=5)
    _, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [row[:-1] for row in rows] == [["4", "1", "200", "no", "2"], ["4", "2", "128", "yes", "1"]]
    assert all(0 < float(row[-1]) < 3 for row in rows)
    with pytest.raises(SystemExit):
        contexts.main([str(smoke_run("point-robot"))], ways)
    assert "the run is not PEARL on cheetah-vel with a product of factors; choose another" in capsys.readouterr().err
