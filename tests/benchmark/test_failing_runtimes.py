"""A compiler or a runtime that fails under `nacre benchmark act` is told in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nacre.benchmark import exported
from nacre.errors import FailedError


@pytest.mark.parametrize(
    ("compiler", "sentence"),
    [
        ("echo 'x.c:1: fatal error: math.h: no such file' >&2; echo 'compilation terminated.' >&2; exit 1",
         "'cc' failed (x.c:1: fatal error: math.h: no such file); repair the compiler"),
        ("printf '#!/bin/sh\\nkill -ILL $$\\n' > policy_test; chmod +x policy_test",
         "'./policy_test' failed (Command "),
        ("exit 0", "'./policy_test' failed ([Errno 2] No such file"),
    ],
)  # fmt: skip
def test_a_compiler_that_fails_is_told_in_one_sentence(
    compiler: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cc").write_text(f"#!/bin/sh\n{compiler}\n")
    (tmp_path / "bin" / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(FailedError) as raised:
        exported.timed(tmp_path, "c")
    assert sentence in str(raised.value) and str(raised.value).endswith("take cc out of PATH, and C is left out.")


def test_a_runtime_that_fails_is_told_in_one_sentence(tmp_path: Path):
    with pytest.raises(FailedError, match=r"failed \(ModuleNotFoundError: No module named 'session'\); check the inst"):
        exported.timed(tmp_path, "numpy")
