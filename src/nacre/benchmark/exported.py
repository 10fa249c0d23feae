"""The runtimes of an exported agent, each timed in a process of its own with one thread."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from nacre.benchmark import sizes
from nacre.benchmark.result import Result
from nacre.errors import FailedError, shown

_NUMPY = """
import json, os, sys, time
sys.path.insert(0, ".")
from session import load, step_times
session = load(".")
session.act([0.0] * session.about["obs_dim"])
ready, num_steps, long_context = time.time(), *map(int, sys.argv[1:])
session.warm_up()
early = step_times(session, num_steps)
step_times(session, long_context - session.num_steps)
late, status = step_times(session, num_steps), "/proc/self/status"
peak = [line.split()[1] for line in open(status) if line.startswith("VmHWM")] if os.path.exists(status) else []
print(json.dumps([ready, early.tolist(), late.tolist(), *map(int, peak)]))
"""

# The memory that goes in and that which comes out change places at every step, so that nothing is copied.
_ONNX = """
import json, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession("step.onnx", options, providers=["CPUExecutionProvider"])
types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
taken, given = ({each.name: np.zeros(each.shape, types[each.type]) for each in some}
                for some in (session.get_inputs(), session.get_outputs()))
def bound(inputs, outputs):
    binding = session.io_binding()
    for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
        for name, values in arrays.items():
            bind(name, "cpu", 0, values.dtype, values.shape, values.ctypes.data)
    return binding
pairs = {name: name.replace("next", "memory") for name in given if name.startswith("next")}
pairs = {name: read for name, read in pairs.items() if read in taken}
changed, back = ({name: copied(taken[read]) for name, read in pairs.items()} for copied in (np.copy, np.asarray))
after = taken | {read: changed[name] for name, read in pairs.items()}
next_obs = taken.get("next_obs", np.zeros_like(taken["obs"]))
bindings = [bound(taken, given | changed), bound(after, given | back)]
rng = np.random.default_rng(0)
seen = list(rng.standard_normal((64, *next_obs.shape)).astype(np.float32))
def step_times(number):
    times = np.empty(number)
    for index in range(number):
        started = time.perf_counter()
        taken["obs"][:], next_obs[:] = seen[index % 64], seen[(index + 1) % 64]
        taken["action"][:], taken["reward"][0] = given["drawn_action"], 1.0
        session.run_with_iobinding(bindings[index % 2])
        times[index] = 1e6 * (time.perf_counter() - started)
    return times
num_steps, long_context = map(int, sys.argv[1:])
step_times(200)
early = step_times(num_steps)
step_times(max(long_context - num_steps, 0))
print(json.dumps([0, early.tolist(), step_times(num_steps).tolist()]))
"""


def percentiles(early: np.ndarray, late: np.ndarray) -> Result:
    """p50 and p99 of the time of a step in microseconds, at the start and in a long context."""
    figures: Result = {}
    for name, microseconds in (("", early), ("_long_context", late)):
        p50, p99 = np.percentile(microseconds, (50, 99))
        figures |= {f"microseconds_p50{name}": float(p50), f"microseconds_p99{name}": float(p99)}
    return figures


def runtimes() -> list[str]:
    """Those that this machine has."""
    has_onnx = all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))
    return ["numpy", *["onnx"] * has_onnx, *["c"] * (shutil.which("cc") is not None)]


def timed(folder: Path, runtime: str) -> Result:
    """The figures of one of them, for the bundle in a folder."""
    if runtime == "c":
        return _of_c(folder)
    started = time.time()
    program = {"numpy": _NUMPY, "onnx": _ONNX}[runtime]
    told = _told([sys.executable, "-c", program], folder, "check the installations of NumPy and ONNX Runtime")
    ready, early, late, *peak = json.loads(told)
    figures = {f"{runtime}_{name}": value for name, value in percentiles(np.array(early), np.array(late)).items()}
    if runtime == "numpy":
        figures["numpy_start_seconds"] = ready - started
        if peak:
            figures["numpy_peak_bytes"] = 1024 * peak[0]
    return figures


def _of_c(folder: Path) -> Result:
    """Of policy_test.c, compiled for this machine."""
    compiler = ["cc", "-std=c99", "-O3", "-march=native", "policy_test.c", "-o", "policy_test", "-lm"]
    repair = "repair the compiler, or take cc out of PATH, and C is left out"
    _output(compiler, folder, repair)
    told = _told(["./policy_test", "weights.bin"], folder, repair)
    figures = re.findall(r"([0-9.]+) us", told)
    names = ("p50", "p99", "p50_long_context", "p99_long_context")
    return {f"c_microseconds_{name}": float(value) for name, value in zip(names, figures, strict=True)}


def _told(command: list[str], folder: Path, then: str) -> str:
    """What a command prints, in this folder, with one thread."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
    return _output([*command, str(sizes.ACTING_STEPS), str(sizes.LONG_CONTEXT)], folder, then, threads)


def _output(command: list[str], folder: Path, then: str, variables: dict[str, str] | None = None) -> str:
    """What a command prints. Where it fails, FailedError with the last of its lines that tells of an error; `then`:
    what to do."""
    try:
        return subprocess.run(
            command, cwd=folder, env=os.environ | (variables or {}), capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).splitlines()
        told = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])
        raise FailedError(
            f"the exported agent could not be timed: '{command[0]}' failed ({shown(told.strip(), 200)}); {then}."
        ) from error
