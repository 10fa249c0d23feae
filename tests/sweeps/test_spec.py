"""A sweep's file: which jobs it stands for, where they lie, and what is refused, with the table and the key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.sweeps.plan import _drawn, as_flags, label_of, plan
from nacre.sweeps.running import rows_of
from nacre.sweeps.spec import Range, read_spec

TOP = {"algorithm": "random", "family": "point-robot", "preset": "smoke"}


def paths(out: Path, **tables: Any) -> list[str]:
    return [str(one.job.path.relative_to(out)) for one in plan(read_spec(TOP | tables, out))]


def test_a_grid_is_every_combination_times_the_seeds(tmp_path: Path):
    file = tmp_path / "terms.toml"
    file.write_text(
        'algorithm = "pearl"\nfamily = "point-robot"\npreset = "smoke"\nseeds = "3:5"\nout = "somewhere"\n'
        "[fields]\nlatent_dim = 4\n[grid]\nkl_weight = [0.1, 1]\nuse_next_obs_in_context = [true, false]\n"
    )
    spec = read_spec(file)
    planned = plan(spec)
    assert spec.out == Path("somewhere") and len(planned) == 8
    folder = "somewhere/point-robot/pearl"
    assert str(planned[0].job.path) == f"{folder}/kl_weight=0.1,use_next_obs_in_context=true/seed-3"
    assert str(planned[-1].job.path) == f"{folder}/kl_weight=1,use_next_obs_in_context=false/seed-4"
    assert planned[1].values == {"kl_weight": 0.1, "use_next_obs_in_context": True}
    fields = {"latent_dim": 4, "kl_weight": 1.0, "use_next_obs_in_context": False}
    assert planned[-1].job.experiment == resolve("pearl", "point-robot", "smoke", seed=4, **fields)
    assert read_spec(file, tmp_path).out == tmp_path
    file.write_text('algorithm = "pearl"')
    assert read_spec(file).out == Path("runs/terms")


def test_experiments_are_methods_families_and_fields_of_their_own(tmp_path: Path):
    experiments = [{"algorithm": "random"}, {"algorithm": "pearl", "kl_weight": 0.5}]
    assert paths(tmp_path, experiment=experiments, seeds=[1]) == [
        "point-robot/random/seed-1", "point-robot/pearl/kl_weight=0.5/seed-1"
    ]  # fmt: skip
    families = paths(tmp_path, grid={"family": ["point-robot", "sparse-point-robot"]}, seeds=7)
    assert families == ["point-robot/random/seed-7", "sparse-point-robot/random/seed-7"]


def test_draws_follow_from_the_seed_and_their_number_and_lie_in_their_ranges(tmp_path: Path):
    def values(**table: Any) -> list[dict[str, Any]]:
        fields = {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "latent_dim": {"low": 2, "high": 4},
            "hidden_dim": [32, 64], "kl_weight": {"low": 0.0, "high": 1.0, "step": 0.25},
        }  # fmt: skip
        spec = TOP | {"algorithm": "pearl", "random": {"fields": fields} | table}
        return [one.values for one in plan(read_spec(spec, tmp_path))]

    drawn = values(runs=30)
    assert values(runs=40)[:30] == drawn and values(runs=30, seed=1) != drawn
    assert all(1e-4 <= one["learning_rate"] <= 1e-2 for one in drawn)
    assert {one["latent_dim"] for one in drawn} == {2, 3, 4} and {one["hidden_dim"] for one in drawn} == {32, 64}
    assert {one["kl_weight"] for one in drawn} == {0.0, 0.25, 0.5, 0.75, 1.0}
    below = sum(one["learning_rate"] < 1e-3 for one in drawn)
    assert 8 <= below <= 22  # half of them, on a logarithmic scale
    assert paths(tmp_path, random={"runs": 2, "fields": {"task_seed": [1]}})[1].endswith("draw-001/seed-0")


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"),
    [(0.99991, 0.99998), (0.00012344, 0.00012349), (1.00001, 1.00002), (123456.7, 123456.9), (1.0, 1.0000000000001)],
)
def test_draws_of_a_narrow_range_stay_in_it_and_differ(low: float, high: float, log: bool):
    drawn = [_drawn(Range(low, high, log), np.random.default_rng([0, run])) for run in range(40)]
    assert all(low <= value <= high for value in drawn) and len(set(drawn)) > 10


def test_steps_of_a_narrow_range_stay_in_it_and_differ():
    steps = Range(1.0000000000001, 1.0000000000005, step=1e-13)
    drawn = {_drawn(steps, np.random.default_rng([0, run])) for run in range(40)}
    assert all(steps.low <= value <= steps.high for value in drawn) and len(drawn) == 5


def test_draws_of_other_ranges_have_four_digits_as_ever():
    """Runs are known by their values: a sweep of an earlier version resumes."""
    ranges = [Range(1e-4, 1e-2, True), Range(0.0, 1.0), Range(0.9, 0.999), Range(0.99, 0.999), Range(-5.0, 300.0)]
    for choices in ranges:
        for run in range(50):
            low, high = (math.log(end) if choices.log else end for end in choices[:2])
            number = np.random.default_rng([3, run]).uniform(low, high)
            rounded = float(f"{math.exp(number) if choices.log else number:.4g}")
            assert _drawn(choices, np.random.default_rng([3, run])) == rounded
    assert _drawn(Range(0.8, 0.95, step=0.05), np.random.default_rng([3, 1])) in (0.8, 0.85, 0.9, 0.95)


def test_values_are_flags_and_names_of_folders():
    assert as_flags("kl_weight", 1e-05) == ["--kl-weight=1e-05"] and as_flags("layer_norm", False) == [
        "--no-layer-norm"
    ]
    assert as_flags("size", (2, 3.5)) == ["--size", "2", "3.5"]
    assert label_of({"algorithm": "pearl", "data": "point-robot/expert v1", "on": True, "size": [1, 2]}) == (
        "data=point-robot-expert-v1,on=true,size=1x2"
    )
    long = [label_of({"data": "x" * 200 + end}) for end in "ab"]
    assert len(long[0]) == 100 and long[0] != long[1]


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"grids": {}}, "unknown key 'grids'; did you mean 'grid'?"),
        ({"kl_weight": 0.1}, "unknown key 'kl_weight'; a field of the configuration belongs in [fields]."),
        ({"family": 3}, "family is 3, but must be text in quotes"),
        ({"grid": {"task_sed": [1]}}, "[grid] task_sed: unknown field 'task_sed'"),
        ({"grid": {"task_seed": [1, "two"]}}, "[grid] task_seed: task_seed is 'two'"),
        ({"grid": {"task_seed": 3}}, "[grid] task_seed is 3, but must be a list"),
        ({"grid": {"task_seed": [3, 3]}}, "[grid] task_seed has a value twice"),
        ({"grid": {"algorithm": ["perl"]}}, "[grid] algorithm: unknown algorithm 'perl'; did you mean 'pearl'?"),
        ({"grid": {"seed": [1, 2]}}, "[grid] seed is no field; write seeds at the top."),
        ({"seeds": "5:3"}, "seeds is 5:3; write"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]; write"),
        ({"seeds": "0:9000000000"}, "seeds is 0:9000000000; write"),
        ({"experiment": [{}, {}]}, "twice; leave one out."),
        ({"random": {"runs": 0, "fields": {"data": ["a"]}}}, "[random] runs is 0, but must be a whole number"),
        ({"random": {"trials": 3}}, "[random]: unknown key 'trials'; fields belong in [random.fields]."),
        ({"random": {"runs": 3}}, "[random] has no fields"),
        ({"random": {"runs": 3, "fields": {"task_seed": {"low": 3}}}}, "[random.fields] task_seed is {'low': 3}"),
        ({"random": {"runs": 3, "fields": {"task_seed": {"low": 3, "high": 1}}}}, "is an impossible range"),
        ({"random": {"runs": 10_001, "fields": {}}}, "[random] runs is 10001"),
        ({"seeds": "0:200", "grid": {"task_seed": list(range(51))}}, "has 10,200 runs, but at most 10,000"),
        ({"optuna": {"trials": 3, "fields": {}}, "grid": {"task_seed": [1]}}, "has [optuna] and [grid]"),
        ({"optuna": {"trials": 3, "pruner": "mean"}}, "[optuna] pruner: unknown pruner 'mean'; did you mean 'median'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_table_and_key(tables: dict[str, Any], told: str, tmp_path: Path):
    with pytest.raises(NacreError) as error:
        plan(read_spec(TOP | tables, tmp_path / "out"))
    assert told in str(error.value) and str(error.value).startswith("the sweep")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none_or_no_toml_is_told_with_its_line(tmp_path: Path):
    file = tmp_path / "a.toml"
    with pytest.raises(NacreError, match="there is no file"):
        read_spec(file)
    file.write_text("family = 'point-robot'\nseeds = \n")
    with pytest.raises(NacreError, match=r"a.toml is not written in TOML: .*line 2"):
        read_spec(file)
    with pytest.raises(NacreError, match="the sweep has no algorithm"):
        plan(read_spec({"family": "point-robot"}))


def test_numbers_are_whole_where_both_ends_are():
    assert Range(1, 3).whole and not Range(1, 3.0).whole


def test_the_rows_of_a_sweep_tell_how_each_job_stands(tmp_path: Path):
    spec = read_spec(TOP | {"grid": {"task_seed": [1, 2, 3, 4]}}, tmp_path)
    jobs = [one.job for one in plan(spec)]
    for job, stands_there in zip(jobs[1:], [jobs[1].experiment, jobs[0].experiment, None], strict=True):
        if stands_there is not None:
            RunDirectory.create(job.path, stands_there)
        (job.path / "checkpoints" / "1").mkdir(parents=True)
    rows = rows_of(spec)
    assert [row["state"] for row in rows] == ["waiting", "done", "not this run", "not this run"]
    assert [row["task_seed"] for row in rows] == [1, 2, 3, 4]
    assert "other settings" in rows[2]["told"] and "not a run" in rows[3]["told"]
    assert [row["task_seed"] for row in rows_of(spec, range(1, 3))] == [2, 3]


def test_of_another_run_in_a_jobs_place_neither_score_nor_progress_is_told(tmp_path: Path):
    spec = read_spec(TOP | {"grid": {"task_seed": [1]}}, tmp_path)
    (job,) = [one.job for one in plan(spec)]
    run = RunDirectory.create(job.path, resolve("random", "point-robot", "smoke"))
    run.append("metrics.csv", ["env_steps", "grad_steps"], [[70, 7]])
    (row,) = rows_of(spec)
    assert (row["updates"], row["env_steps"], row["score"]) == (0, 0, None)
