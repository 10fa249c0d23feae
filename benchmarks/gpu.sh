#!/usr/bin/env bash
# What nacre does on a GPU: correctness, speed, and learning curves, in one call that ends within LIMIT seconds.
#
#     benchmarks/gpu.sh OUT [STEP...]
#
# OUT gets gpu.jsonl (a JSON object for every figure), logs.tgz (what each step printed) and runs.tgz (tables of the
# runs). Steps, in this order unless named:
#
#     info         the GPU, its driver, the packages
#     correct      tests that need a GPU, and the reference implementation's numbers
#     update       nacre benchmark update: presets, precisions, one learner and eight
#     train-fast   pearl cheetah-vel --preset fast, eight seeds side by side, then their evaluations
#     play         nacre benchmark collect, evaluate, act
#     train-paper  the same eight seeds with the paper's settings, for what is left of LIMIT
#     devices      all GPUs against one: equal numbers, an update of eight seeds and of one run (only if named)
#     iteration    nacre benchmark iteration of the on-policy methods (only if named)
#
# A STEP with a slash in it is a script of your own. It finds WORK (a folder for runs and logs), JSONL and PYTHON in
# its environment. A step that fails or takes too long does not stop the others.
#
# PYTHON: the interpreter that has nacre. LIMIT: seconds in all. FAST_MINUTES: for train-fast.

cd "$(dirname "$0")/.." || exit 1
set -o pipefail
[ $# -ge 1 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1" || exit 1
OUT=$(cd "$1" && pwd)
shift
[ $# -ge 1 ] || set -- info correct update train-fast play train-paper

export PYTHON=${PYTHON:-python3} PYTHONUNBUFFERED=1 WORK JSONL=$OUT/gpu.jsonl
LIMIT=${LIMIT:-500} FAST_MINUTES=${FAST_MINUTES:-2.5}
WORK=$(mktemp -d)
mkdir -p "$WORK/logs" "$WORK/runs"

left() { echo $((LIMIT - SECONDS)); }

# limited SECONDS COMMAND...: within so many seconds, and within what is left. SIGTERM first, so that runs are saved.
limited() {
    local seconds=$1
    shift
    [ "$(left)" -lt "$seconds" ] && seconds=$(left)
    [ "$seconds" -ge 5 ] || { echo "no time left for: ${*:1:6}" >&2; return 124; }
    timeout --kill-after=10 "$seconds" "$@"
}

nacre() { "$PYTHON" -m nacre "$@"; }

# measured NACRE-BENCHMARK-ARGUMENTS...: one line of gpu.jsonl.
measured() { limited "${EACH:-45}" "$PYTHON" -m nacre benchmark "$@" --json | tee -a "$JSONL"; }

info() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv
    nproc
    grep -m1 "model name" /proc/cpuinfo
    limited 60 "$PYTHON" - <<'END'
import importlib.metadata as metadata
import jax
print(jax.default_backend(), jax.devices())
for name in "nacre jax jaxlib numpy mujoco equinox optax orbax-checkpoint tensorstore".split():
    print(name, metadata.version(name))
END
}

# Both at once, in several processes: nothing is timed here.
correct() {
    export XLA_PYTHON_CLIENT_PREALLOCATE=false
    limited 100 "$PYTHON" -m pytest -q -rA -p no:cacheprovider -n 5 tests/learning/test_on_gpu.py \
        >"$WORK/logs/correct-1.txt" 2>&1 &
    limited 100 "$PYTHON" -m pytest -q -p no:cacheprovider -n 4 tests/algorithms/test_golden.py \
        -k "float32 or posterior_of_contexts or (dense and (outputs or losses or parameters))" 2>&1
    wait
    grep -aE "^(PASSED|FAILED|ERROR|E  )|passed|failed|steps differ" "$WORK/logs/correct-1.txt"
}

# One process for all of them, which saves as many starts; the most telling first.
update() {
    limited 150 "$PYTHON" - <<'END' | tee -a "$JSONL"
import json
import sys
import time
import traceback

from nacre import benchmark
from nacre.runs.compilation_cache import use_compilation_cache

use_compilation_cache()
VEL, ANT = "cheetah-vel", "ant-goal"
for family, preset, seeds, precision in (
    (VEL, "paper", 1, "float32"), (VEL, "paper", 8, "float32"), (VEL, "fast", 1, "float32"),
    (VEL, "fast", 8, "float32"), (VEL, "best", 1, "float32"), (VEL, "best", 8, "float32"), (VEL, "paper", 1, "tf32"), (VEL, "paper", 8, "tf32"), (VEL, "paper", 1, "bfloat16"),
    (VEL, "paper", 8, "bfloat16"), (ANT, "paper", 1, "float32"), (VEL, "fast", 8, "tf32"), (VEL, "fast", 1, "tf32"),
    (VEL, "fast", 8, "bfloat16"), (VEL, "fast", 1, "bfloat16"), (ANT, "paper", 1, "tf32"), (ANT, "paper", 1, "bfloat16"),
):
    started = time.perf_counter()
    try:
        print(json.dumps(benchmark.run("update", family, preset, seeds=seeds, precision=precision)), flush=True)
    except Exception:
        traceback.print_exc()
    print(f"{family} {preset} {seeds} {precision}: {time.perf_counter() - started:.0f} s in all", file=sys.stderr)
END
}

# train PRESET MINUTES
train() {
    local runs=$WORK/runs/$1
    limited $((${2%.*} * 60 + 75)) "$PYTHON" -m nacre train pearl cheetah-vel --preset "$1" --seeds 0:8 \
        --time-limit "$2" --out "$runs"
    tail -qn 1 "$runs"/seed-*/metrics.csv | cut -c 1-120
}

train-fast() {
    train fast "$FAST_MINUTES"
    export XLA_PYTHON_CLIENT_PREALLOCATE=false
    local run
    for run in "$WORK"/runs/fast/seed-*; do
        limited 60 "$PYTHON" -m nacre evaluate "$run" --repeats 10 --json >"$run/evaluate.json" &
    done
    wait
    limited 20 "$PYTHON" - "$WORK"/runs/fast/seed-*/evaluate.json <<'END' | tee -a "$JSONL"
import json
import sys
from pathlib import Path

import numpy as np

scores = {}
for file in map(Path, sys.argv[1:]):
    if file.stat().st_size:
        scores[file.parent.name] = float(np.mean(np.array(json.loads(file.read_text())["returns"])[..., -1]))
print(json.dumps({"run": "pearl cheetah-vel fast", "scores": scores}))
END
}

play() {
    measured collect
    measured act
    JAX_PLATFORMS=cpu measured act
    measured evaluate
    measured collect --lanes 512
    measured collect --family point-robot --lanes 512
    measured collect --family ant-goal
}

train-paper() {
    local seconds=$(($(left) - 25))
    [ "$seconds" -ge 30 ] && train paper "$(awk "BEGIN { print $seconds / 60 }")"
}

devices() {
    local number seeds
    number=$(limited 60 "$PYTHON" -c 'import jax; print(max(n for n in (1, 2, 4, 8) if n <= jax.local_device_count()))')
    [ "${number:-1}" -gt 1 ] || { echo "there is one GPU: nothing to compare"; return; }
    limited 150 "$PYTHON" tests/learning/on_eight_devices.py | tee -a "$JSONL"
    for seeds in 8 1; do
        EACH=90 measured update --seeds "$seeds" --devices "$number"
        EACH=90 measured update --seeds "$seeds"
    done
}

iteration() {
    local method
    for method in maml-trpo promp rl2 maesn; do
        EACH=60 measured iteration --algorithm "$method"
    done
}

for step in "$@"; do
    began=$SECONDS
    name=$(basename "$step" .sh)
    log=$WORK/logs/$name.txt
    case $step in
        info | correct | update | train-fast | play | train-paper | devices | iteration) ("$step") >"$log" 2>&1 ;;
        */*) limited 300 bash "$step" >"$log" 2>&1 ;;
        *) echo "no step is called $step" >"$log" ;;
    esac
    status=$?
    echo "== $name: exit status $status, $((SECONDS - began)) s" | tee -a "$log"
    tail -n 22 "$log" | cut -c 1-400
    tar -czf "$OUT/logs.tgz" -C "$WORK" logs
    (cd "$WORK" && find runs -maxdepth 3 \( -name '*.csv' -o -name '*.json' \) -print0 | tar -czf "$OUT/runs.tgz" --null -T -)
done
rm -rf "$WORK"
