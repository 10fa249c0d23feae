"""Installs the wheel and the sdist of a folder, each into an environment of its own, and tries them, for `make dist`.

    python tests/check_dist.py dist

Dependencies are those of the environment that runs it, so nothing is downloaded.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRIED = """
import pathlib, sys
import nacre
where = pathlib.Path(nacre.__file__)
assert where.is_relative_to(sys.prefix), f"nacre of {where} is not the one that was installed"
assert (where.parent / "py.typed").exists()
run = nacre.train("random", "point-robot", preset="smoke", out="run")
assert nacre.load("run").evaluate()[0].size > 0
"""


def main() -> None:
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("nacre-*.whl"), folder.glob("nacre-*.tar.gz")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    check_wheel(wheel, version)
    for file in (wheel, sdist):
        try_out(file.absolute(), version)
        print(f"{file.name}: installed and tried", flush=True)


def check_wheel(wheel: Path, version: str) -> None:
    """Every file of the package is in the wheel, and nothing else is but its metadata."""
    here = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src").rglob("*") if file.is_file()}
    wanted = {name for name in here if "__pycache__" not in name}
    there = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in there if not name.startswith(f"nacre-{version}.dist-info/")}
    assert inside == wanted, f"the wheel differs from src/ by {sorted(inside ^ wanted)[:10]}"


def try_out(file: Path, version: str) -> None:
    """Installs it, without its dependencies, which are found where this Python has them."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        venv.create(place / "env", with_pip=False)
        python = place / "env" / "bin" / "python"
        paths = sysconfig.get_paths(vars={"base": str(place / "env"), "platbase": str(place / "env")})
        (Path(paths["purelib"]) / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        install = [*installer(python), "--no-deps", "--no-build-isolation", str(file)]
        subprocess.run(install, check=True, cwd=place)
        told = subprocess.check_output([place / "env/bin/nacre", "--version"], text=True, cwd=place)
        assert told == f"nacre {version}\n", told
        subprocess.run([python, "-c", TRIED], check=True, cwd=place)


def installer(python: Path) -> list[str]:
    """pip of this environment, or uv, for the other one."""
    has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0
    if has_pip:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        return [*pip, "install", "--quiet"]
    return [sys.argv[2] if len(sys.argv) > 2 else "uv", "pip", "install", "--quiet", "--python", str(python)]


if __name__ == "__main__":
    main()
