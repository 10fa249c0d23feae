# nacre's tasks. `make` lists them. Needed on the machine: make and Python 3.11, 3.12 or 3.13 with venv and pip.
# Everything is installed into .venv, by hash from requirements.lock; uv is used where it is on the PATH.

PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null)
PYTEST_ARGS ?=
# A test file stays in one process: what it compiled serves all of its tests. Files keep their order, of which the last
# are short. Most of their time is compilation, hence without most optimisations; the slow tests have them all.
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

VENV := .venv
LOCK := requirements.lock
BIN := $(VENV)/bin
STAMP := $(VENV)/.nacre-installed
DEMO := demo

ifneq ($(UV),)
INSTALL = "$(UV)" pip install --quiet --python $(BIN)/python
else
INSTALL = $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-input
endif

.DEFAULT_GOAL := help
.PHONY: help env test test-slow test-metaworld docs outputs dist demo lock clean
.NOTPARALLEL:

help:
	@echo "make env         create .venv with nacre in it (PYTHON=python3.12 chooses the interpreter)"
	@echo "make test        lint, format, types and tests (PYTEST_ARGS='-k belief' chooses among the tests, WORKERS= runs them in one process)"
	@echo "make test-slow   the tests that train until something is learned, and whole runs of further families, minutes"
	@echo "make test-metaworld  the tests of Meta-World, in an environment of its own (.venv-metaworld)"
	@echo "make docs        build the documentation site, in an environment of its own (.venv-docs): build/docs/index.html"
	@echo "make outputs     run notebooks of the site and keep what they print (docs/outputs)"
	@echo "make dist        build the wheel and the sdist into dist/, install each into an environment of its own, and try it"
	@echo "make demo        meta-train on sparse-point-robot, meet new goals, draw pictures; goes on where it was stopped"
	@echo "make lock        rewrite requirements.lock from pyproject.toml (LOCK_ARGS=--upgrade takes the newest); needs uv"
	@echo "make clean       remove .venv, caches, builds and $(DEMO)/; runs/ stays"

env: $(STAMP)

# The stamp makes this a no-op until pyproject.toml or the lock changes.
$(STAMP): pyproject.toml $(LOCK) | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV)"
ifeq ($(UV),)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
endif
	@$(INSTALL) --require-hashes --requirement $(LOCK)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "Ready: $$($(BIN)/python --version), $(BIN)/nacre"

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	    echo "nacre needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is" \
	        "$$("$(PYTHON)" --version 2>/dev/null || echo 'not there'): name one that fits," \
	        "as in 'make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12'." >&2; exit 1; }
	@rm -rf $(VENV)
ifneq ($(UV),)
	@"$(UV)" venv --quiet --python "$$("$(PYTHON)" -c 'import sys; print(sys.executable)')" $(VENV)
else
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot create an environment: install its venv module (on Debian and Ubuntu" \
	        "the package python3-venv), then run make again." >&2; exit 1; }
endif

# One process checks types while the others test.
test: env
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy & types=$$!; \
	    JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS); tests=$$?; \
	    wait $$types || { echo "mypy has found errors: see above, before the tests" >&2; exit 1; }; exit $$tests

test-slow: env
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# Meta-World pins an older MuJoCo, hence an environment and a lock of its own.
test-metaworld:
	@$(MAKE) --no-print-directory env VENV=.venv-metaworld LOCK=requirements-metaworld.lock
	MUJOCO_GL=$${MUJOCO_GL:-egl} .venv-metaworld/bin/python -m pytest tests -k "metaworld or ml1" $(PYTEST_ARGS)

# Warnings are errors, dead links and anchors among them. The site needs no network, neither to be built nor to be read.
docs:
	@$(MAKE) --no-print-directory env VENV=.venv-docs LOCK=requirements-docs.lock
	.venv-docs/bin/python docs/stage.py build/docs-source
	.venv-docs/bin/python -m sphinx -c docs -b html -E -W --keep-going --quiet build/docs-source build/docs
	@echo "Ready: build/docs/index.html"

# Notebooks of the site that need no long training, PAGES= names others.
PAGES ?= first-run on-the-robot read-runs
outputs:
	@$(MAKE) --no-print-directory env VENV=.venv-docs LOCK=requirements-docs.lock
	PATH="$(CURDIR)/.venv-docs/bin:$$PATH" .venv-docs/bin/python docs/execute.py $(PAGES)

# hatchling is pinned by hash as everything else is; nothing is downloaded.
dist: env
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python tests/check_dist.py dist $(UV)

demo: env
	@if [ -e $(DEMO)/run ]; then \
	    $(BIN)/nacre resume $(DEMO)/run; \
	else \
	    $(BIN)/nacre train pearl sparse-point-robot --preset fast --seed 0 --out $(DEMO)/run; \
	fi
	@$(BIN)/nacre report $(DEMO)/run --kind trials -o $(DEMO)/trials.png
	@$(BIN)/nacre report $(DEMO)/run -o $(DEMO)/curves.png
	@echo
	@echo "Open $(DEMO)/trials.png: one trial on each of six goals that the robot has never met."
	@echo "It is not told where the goal is, and is rewarded only within 0.2 of it."
	@echo "Orange, episodes 1 to 5: it tries two places in each."
	@echo "Blue, episodes 6 to 20: it acts on what it believes, and in most trials goes to the goal."
	@echo
	@echo "The test return above is that of a trial's last episode, the mean over 20 such goals: 0 where it never gets there, about 13 where it goes straight there."
	@echo "$(DEMO)/curves.png shows how it grew in training. Next: docs/first-run.md"

# Names, versions, markers and hashes only: no addresses, so that it serves any index or mirror.
LOCK_UV = $(or $(UV),$(wildcard $(BIN)/uv))
COMPILE = "$(LOCK_UV)" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet $(LOCK_ARGS)
lock:
	@test -n "$(LOCK_UV)" || { echo "make lock needs uv: pip install uv, then run it again." >&2; exit 1; }
	$(COMPILE) --extra dev --extra offline --output-file requirements.lock
	$(COMPILE) --extra dev --extra metaworld --output-file requirements-metaworld.lock
	$(COMPILE) --extra dev --extra docs --extra offline --output-file requirements-docs.lock

clean:
	rm -rf $(VENV) .venv-metaworld .venv-docs $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
