"""What importing nacre and short commands load: nothing that takes long. And the public names, loaded at first use."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nacre

HEAVY = ("gymnasium", "jax", "jaxtyping", "matplotlib", "mujoco", "optax", "orbax", "rich", "tensorboardX", "tyro")
REFUSED = [
    ["trian"],
    ["train", "pearl", "cheetah-vel", "--lr", "1"],
    ["train", "--preset", "fast", "promp", "ant-goal", "--gamma", "1"],
    ["train", "pearl", "cheetah"],
    *(
        [command, "x", "--lr", "1"]
        for command in (
            "resume",
            "evaluate",
            "adapt",
            "export",
            "finetune",
            "report",
            "compare",
            "reproduce",
            "benchmark",
        )
    ),
]
LISTS = [["list"], ["list", "pearl"], ["list", "cheetah-vel", "--json"]]


def python(code: str) -> str:
    """What a new Python process prints that runs this code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_and_short_commands_load_nothing_that_takes_long() -> None:
    code = f"""
import json, sys
import nacre
loaded = lambda: [name for name in {HEAVY} if name in sys.modules]
told = [("import nacre", 0, loaded())]
from nacre.cli.main import main
for command in {[["--version"], *REFUSED, *LISTS]}:
    told.append((" ".join(command), main(command), loaded()))
print(json.dumps(told))
"""
    told = json.loads(python(code).splitlines()[-1])
    assert [status for _, status, _ in told] == [0, 0, *(2 for _ in REFUSED), *(0 for _ in LISTS)]
    for what, _, loaded in told:
        assert set(loaded) <= ({"tyro"} if what.startswith("list") else set()), f"{what} loads {loaded}"


@pytest.mark.parametrize(
    "imports",
    [
        "import nacre, gymnasium",
        "import gymnasium, nacre",
        "import nacre; from gymnasium import envs, spec",
        "import nacre, importlib.util as i; assert i.find_spec('gymnasium') and i.find_spec('gymnasium')",
    ],
)
def test_every_family_is_a_gymnasium_environment_once_nacre_is_imported(imports: str) -> None:
    code = f"{imports}; import gymnasium; print(gymnasium.spec('nacre/CheetahVel-v0').max_episode_steps)"
    assert python(code) == "200\n"


def test_a_family_that_is_registered_before_gymnasium_is_imported_is_an_environment_too() -> None:
    code = """
import sys, nacre
from nacre.families.point import PointRobot
class Other(PointRobot):
    name, horizon = "other-point", 7
nacre.register_family(Other)
assert "gymnasium" not in sys.modules
import gymnasium
print(gymnasium.make("nacre/OtherPoint-v0").spec.max_episode_steps)
"""
    assert python(code) == "7\n"


def test_gymnasium_imports_nacre_for_an_id_that_names_it() -> None:
    code = "import gymnasium; print(gymnasium.make('nacre:nacre/PointRobot-v0').spec.max_episode_steps)"
    assert python(code) == "20\n"


def test_public_names_are_loaded_from_where_type_checkers_see_them() -> None:
    tree = ast.parse(Path(nacre.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(seen) == sorted(nacre.__all__)
    for name, module in seen.items():
        assert getattr(nacre, name) is getattr(importlib.import_module(str(module)), name)
        assert name in dir(nacre)


def test_a_name_that_nacre_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        nacre.trian  # noqa: B018


def test_every_public_name_loads_where_there_are_no_posix_locks() -> None:
    code = """
import sys
sys.modules["fcntl"] = None  # as on Windows
import nacre
print([getattr(nacre, name) for name in nacre.__all__] != [])
"""
    assert python(code) == "True\n"
