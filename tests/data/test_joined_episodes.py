"""Files that do not say where episodes end are refused: their episodes would run into each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_importing import EPISODES, NEW, ONE, listed, macaw_rows, object_rows, write_d4rl, write_macaw

import made_up_data as made_up
from made_up_data import FAMILY
from nacre.data import importing
from nacre.data.importing import import_data_set
from nacre.errors import NacreError

h5py = pytest.importorskip("h5py")


def too_long(kind: str, path: Path) -> str:
    """Three episodes of all 20 steps at `path` that run into each other, in one of the formats; the layout."""
    episodes = [made_up.episode(0, "train", number, 20) for number in range(3)]
    joined = episodes[0]._replace(
        obs=np.concatenate([*(e.obs[:-1] for e in episodes), episodes[-1].obs[-1:]]), terminated=False,
        **{name: np.concatenate([getattr(e, name) for e in episodes]) for name in ("action", "reward")},
    )  # fmt: skip
    if kind == "macaw":
        write_macaw(path, macaw_rows([joined]))
    elif kind == "d4rl":
        write_d4rl(path, episodes, "nothing")
    elif kind == "trajectories":
        path.mkdir()
        np.save(path / "trj_evalsample0_step1.npy", object_rows(joined, 4))
    else:
        path.mkdir()
        columns = {"obs": joined.obs[:-1], "next_obs": joined.obs[1:], "actions": joined.action,
                   "rewards": joined.reward, "terminals": np.zeros(60)}  # fmt: skip
        for name, column in columns.items():
            np.save(path / f"{name}.npy", column)
    return kind if kind in importing.LAYOUTS else "npy"


@pytest.mark.parametrize("kind", ["macaw", "d4rl", "trajectories", "npy"])
def test_episodes_that_run_into_each_other_are_refused(root: Path, tmp_path: Path, kind: str) -> None:
    layout = too_long(kind, tmp_path / "x")
    told = "has an episode of 60 steps, but those of point-robot have 20 at most; .* where episodes end"
    with pytest.raises(NacreError, match=told):
        import_data_set(layout, tmp_path, NEW, FAMILY, listed(tmp_path, ONE))
    assert not list(root.rglob("*imported*"))


def test_without_next_observations_and_timeouts_where_episodes_end_is_not_known(root: Path, tmp_path: Path) -> None:
    write_d4rl(tmp_path / "x", EPISODES)
    with h5py.File(tmp_path / "x", "a") as handle:
        del handle["timeouts"]
    with pytest.raises(NacreError, match="neither 'timeouts' nor 'next_observations', so where episodes end"):
        import_data_set("d4rl", tmp_path, NEW, FAMILY, listed(tmp_path, ONE))


def test_no_data_set_holds_an_episode_beyond_the_horizon(root: Path) -> None:
    with (
        pytest.raises(NacreError, match="has 21 steps, but those of point-robot have 20 at most"),
        made_up.writer() as w,
    ):
        w.add([made_up.episode(0, "train", 0, 21)])
