"""How much memory a run may have."""

from pathlib import Path

import pytest

from nacre.runs.memory import control_group_limits


def limits(tmp_path: Path, membership: str, files: dict[str, str]) -> list[float]:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "membership").write_text(membership)
    return list(control_group_limits(tmp_path / "cgroup", tmp_path / "membership"))


@pytest.mark.parametrize(
    "membership, files, expected",
    [
        pytest.param("0::/\n", {"memory.max": "2000000\n"}, [2e6], id="container"),
        pytest.param(
            "0::/slurm/job_7/step_0\n",
            {"slurm/job_7/step_0/memory.max": "max\n", "slurm/job_7/memory.max": "3000000\n"},
            [3e6], id="job, whose step has no limit beside",
        ),
        pytest.param(
            "5:devices:/a\n4:memory:/a/b\n0::/\n",
            {"memory/a/b/memory.limit_in_bytes": "1000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"},
            [1000.0, 9223372036854771712.0], id="first version",
        ),
        pytest.param("0::/elsewhere\n", {}, [], id="groups that are not there to read"),
        pytest.param("what is this", {}, [], id="a file that nobody understands"),
    ],
)  # fmt: skip
def test_limits_of_control_groups(
    membership: str, files: dict[str, str], expected: list[float], tmp_path: Path
) -> None:
    assert limits(tmp_path, membership, files) == expected


def test_no_control_groups_no_limits(tmp_path: Path) -> None:
    assert list(control_group_limits(tmp_path, tmp_path / "missing")) == []
