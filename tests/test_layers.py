"""The shape of the source: which module may import which, what none may do, and that the docs name what exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache, reduce
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

import nacre

SOURCE = Path(nacre.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"

# The rooms, from the ground up. A module imports from its own room and from rooms above it in this list.
ROOMS = (
    ("errors", "types"),
    ("families",),
    ("presets",),
    ("simulation",),
    ("learning",),
    ("algorithms",),
    ("data",),
    ("runs",),
    ("sweeps",),
    ("deploy",),
    ("fine_tuning",),
    ("collect",),
    ("benchmark",),
    ("report",),
    ("cli", "__main__"),
)
FILES = sorted(SOURCE.rglob("*.py"))


def module_name(file: Path) -> str:
    """'algorithms.pearl' for src/nacre/algorithms/pearl.py; '' for the package itself."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """All that is in a file; walked once."""
    return tuple(ast.walk(tree_of(file)))


def imported(file: Path) -> Iterator[str]:
    """Names of the nacre modules that a file imports, wherever in it."""
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "nacre":
                    yield alias.name.removeprefix("nacre").removeprefix(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            module = node.module or ""
            if module.split(".")[0] == "nacre":
                inside = module.removeprefix("nacre").removeprefix(".")
                for alias in node.names:
                    below = f"{inside}.{alias.name}" if inside else alias.name
                    yield below if below in MODULES else inside


def layer(module: str) -> int:
    return next(i for i, names in enumerate(ROOMS) if module.split(".")[0] in names)


def test_every_module_has_its_place_in_the_layers() -> None:
    known = {name for names in ROOMS for name in names}
    assert {module.split(".")[0] for module in MODULES} - {""} <= known


def test_imports_point_one_way() -> None:
    for module, file in MODULES.items():
        if module:
            for other in imported(file):
                if other:  # the package itself: no module may import it, see below
                    assert layer(other) <= layer(module), f"nacre.{module} imports nacre.{other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: {other for other in imported(file) if other} for module, file in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


MOST_LINES = 400
SMALLER = {"algorithms.pearl": 350, "algorithms.oracle": 120, "presets.pearl": 250}


@pytest.mark.parametrize("module", MODULES)
def test_a_file_can_be_read_at_a_sitting(module: str) -> None:
    most = SMALLER.get(module, MOST_LINES)
    assert len(MODULES[module].read_text().splitlines()) <= most


def test_no_module_imports_the_package_as_a_whole() -> None:
    assert [module for module, file in MODULES.items() if module and "" in set(imported(file))] == []


def test_no_algorithm_imports_another() -> None:
    algorithms = {module for module in MODULES if module.startswith("algorithms.")} - {
        "algorithms.registry",
        "algorithms.protocol",
    }
    assert algorithms
    for module in algorithms:
        assert not set(imported(MODULES[module])) & (algorithms - {module})


def test_no_family_imports_a_simulator_or_an_algorithm() -> None:
    for module in (module for module in MODULES if module.startswith("families.")):
        assert {other.split(".")[0] for other in imported(MODULES[module])} <= {"families", "errors", "types"}


def test_mujoco_is_loaded_in_a_single_place() -> None:
    """Which copes with a MUJOCO_GL that names what is not there. What `if TYPE_CHECKING` imports is never loaded."""
    for module, file in MODULES.items():
        names = {
            alias.name for node in tree_of(file).body for alias in (node.names if isinstance(node, ast.Import) else ())
        }
        assert "mujoco" not in names, module


def dotted(node: ast.expr) -> str:
    """'np.random.seed' for that expression; '' for one that is no chain of names."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


ASKED_BY_TYPE = {
    "algorithms.registry": "what a stranger registers must be an Algorithm with settings of a method",
    "simulation.lanes": "the place that says who steps which kind of family",
    "simulation.check": "a stranger's class, which may declare nothing of what a family declares",
    "benchmark.playing": "each kind of simulator is measured beside what it is made of; the learner is PEARL's",
    "benchmark.result": "the learner that is measured is PEARL's",
    "deploy.bundles": "a MuJoCo robot's description names its actuators and tells its time step",
    "deploy.session": "the memory that a detector of changes wraps around a method's",
    "deploy.changing_tasks": "the memory that a detector of changes wraps around a method's",
    "report.trials": "a picture of the square and the half circle of the point robots, which no other family has",
    "runs.data_set": "what `Algorithm.offline` says, told to the type checker",
    "algorithms.maml": "the two methods of that file, each with a class of settings",
    "collect.run_replay": "the replay, which is no part of what a method must have",
}
"""Module -> why it asks a method or a family for its type, or for what it need not declare."""


@cache
def names_below(*bases: str) -> set[str]:
    """Names of these classes, and of all that derive from them."""
    classes = [node for file in FILES for node in nodes_of(file) if isinstance(node, ast.ClassDef)]
    found = set(bases)
    while more := {one.name for one in classes if {dotted(base) for base in one.bases} & found} - found:
        found |= more
    return found


def methods_and_families() -> set[str]:
    return names_below("Family", "MethodSettings", "Algorithm")


OF_A_METHOD = re.compile(r"(family|settings|\bconfig|algorithm|experiment|state|memory(_after)?)$|^load_state\(")


def asks_for_type(call: ast.Call) -> bool:
    """isinstance with a class of methods or families; hasattr, or getattr of a name that need not be there, on them.
    getattr(settings, name) without a default reads fields that the class declares."""
    if not isinstance(call.func, ast.Name) or call.func.id not in ("isinstance", "hasattr", "getattr"):
        return False
    if call.func.id == "isinstance":
        return bool({node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)} & methods_and_families())
    open_ended = call.func.id == "hasattr" or len(call.args) == 3
    return open_ended and OF_A_METHOD.search(ast.unparse(call.args[0])) is not None


def test_methods_and_families_are_asked_what_they_declare_not_of_what_type_they_are() -> None:
    calls = {
        module: [node for node in nodes_of(file) if isinstance(node, ast.Call) and asks_for_type(node)]
        for module, file in MODULES.items()
    }
    assert {"SparsePointRobot", "GymnasiumFamily", "PearlSettings", "RandomSettings"} <= methods_and_families()
    assert {module for module, found in calls.items() if found} == ASKED_BY_TYPE.keys()


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_nothing_unpickles_or_evaluates_text(file: Path) -> None:
    for node in nodes_of(file):
        if isinstance(node, ast.Import | ast.ImportFrom):
            sources = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not {name.split(".")[0] for name in sources} & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
        if isinstance(node, ast.Call):
            assert dotted(node.func) not in ("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec")
            for keyword in node.keywords:
                assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_no_random_number_comes_from_a_global_generator(file: Path) -> None:
    """A generator that is made from a seed is a value; np.random.uniform() and random.random() are hidden state."""
    made = {"default_rng", "Generator", "RandomState", "SeedSequence"}
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            assert "random" not in [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("random", "numpy.random")
        if isinstance(node, ast.Attribute) and dotted(node).startswith(("np.random.", "numpy.random.")):
            assert dotted(node).split(".")[2] in made, dotted(node)
        if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in made:
            assert node.args or node.keywords, "a generator without a seed"


# ----------------------------------------------------------------------------------------------------------------------
# docs/pearl.md


def named_in(text: str) -> list[str]:
    """Backquoted names of things in modules, such as `pearl.critic_loss` or `replay.sample(...)`."""
    modules = {module.split(".")[-1] for module in MODULES if module}
    names = re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?`", text)
    return [name for name in names if name.removeprefix("nacre.").split(".")[0] in modules and not name.endswith(".py")]


def found(name: str) -> Any:
    """What a name of the documents stands for: the longest module path in front, attributes behind."""
    parts = name.removeprefix("nacre.").split(".")
    for module in sorted(MODULES):
        if module and (module.split(".")[-1] == parts[0] or module == ".".join(parts[:-1])):
            inside = parts[1:] if module.split(".")[-1] == parts[0] else parts[-1:]
            try:
                return reduce(getattr, inside, importlib.import_module(f"nacre.{module}"))
            except AttributeError:
                continue
    raise AssertionError(f"docs/pearl.md names {name}, which does not exist")


def test_names_are_read_from_documents_and_looked_up() -> None:
    text = (
        "| Eq. 3 | `soft_actor_critic.critic_loss`, `nacre.simulation.rollout.trial` | "
        "`presets/pearl.py`, `math.pi` | `pearl.infer_z(...)` |"
    )
    assert named_in(text) == ["soft_actor_critic.critic_loss", "nacre.simulation.rollout.trial", "pearl.infer_z"]
    assert [found(name).__name__ for name in named_in(text)] == ["critic_loss", "trial", "infer_z"]
    with pytest.raises(AssertionError, match=r"pearl\.actor_loss"):
        found("pearl.actor_loss")


def test_every_name_in_the_tables_of_docs_pearl_exists() -> None:
    text = (DOCS / "pearl.md").read_text()
    names = named_in(text)
    assert len(set(names)) >= 15
    for name in names:
        found(name)


def test_docs_pearl_says_where_every_loss_and_step_of_the_algorithm_is() -> None:
    names = {name.removeprefix("nacre.") for name in named_in((DOCS / "pearl.md").read_text())}
    parts = ("pearl.posterior", "pearl.kl_to_prior", "pearl.make_agent", "off_policy.meta_train", "off_policy.collect")
    losses = ("critic_loss", "policy_loss", "value_loss", "update")
    assert {*parts, *(f"soft_actor_critic.{name}" for name in losses)} <= names
