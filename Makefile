# The commands a newcomer and a contributor need. `make run` and `make test` work in a fresh clone on a machine
# that has python3.11 (or newer) and make. What is installed is remembered in stamp files: a second call is instant.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
PORT   ?=
ARGS   ?=
JOBS   ?= 2

BIN   := $(VENV)/bin
SERVE := $(VENV)/.installed-serve
DEV   := $(VENV)/.installed-dev
PIP    = $(BIN)/python -m pip --disable-pip-version-check --quiet
# Installed without resolving: the lock is complete, and --require-hashes refuses anything that is not in it.
LOCKED = $(PIP) install --require-hashes --no-deps -r
# Python code is compiled when first imported: installing is faster and the environment smaller.
SERVE_FLAGS = --no-compile
TORCH := $(shell sed -n 's/^torch==//p' requirements/torch.txt)
FILES := src tests benchmarks

export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

.PHONY: run test check fast format dev students proving-ground lock clean help

help:
	@echo "make run [PORT=8400] [ARGS=...]  start Studium on this machine"
	@echo "make test                        everything: checks, layers and all tests"
	@echo "make check                       format, lint, types, layers and fast tests, in under a minute"
	@echo "make format                      write the format that check wants"
	@echo "make dev                         the environment with everything, training included"
	@echo "make students                    train the embedded students from nothing"
	@echo "make proving-ground              every training stage on a drill that can be verified, five seeds"
	@echo "make lock                        write the locked dependencies anew"
	@echo "make clean                       remove environments and caches, not your workspace"

run: $(SERVE)
	@exec $(BIN)/studium up $(if $(PORT),--port $(PORT)) $(ARGS)

dev: $(DEV)

test: $(DEV) sandbox
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/ruff check $(FILES)
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(DEV)
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/ruff check $(FILES)
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -q -m "not slow" $(ARGS)

format: $(DEV)
	$(BIN)/ruff check --fix $(FILES)
	$(BIN)/ruff format $(FILES)

students: $(DEV)
	$(BIN)/python -m studium.train.students $(ARGS)

# Debian ships venv without the part that installs pip. As root that is put right here, else the command is shown.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Studium needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11"; exit 2; }
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing python3-venv, which Debian keeps apart"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; \
	  else \
	    echo "This Python cannot make environments. Run: sudo apt-get install -y python3-venv"; exit 2; \
	  fi; fi
	$(PYTHON) -m venv $(VENV)

$(SERVE): requirements/serve.lock pyproject.toml | $(BIN)/python
	$(LOCKED) requirements/serve.lock $(SERVE_FLAGS)
	$(PIP) install --no-build-isolation --no-deps --editable .
	@$(PIP) uninstall --yes setuptools # some Pythons put it into every environment; nothing here imports it
	@touch $@

$(DEV): requirements/dev.lock requirements/torch.txt pyproject.toml | $(BIN)/python
	$(LOCKED) requirements/dev.lock
	@$(BIN)/python -c 'from importlib.metadata import version as v; assert v("torch").split("+")[0] == "$(TORCH)"' 2>/dev/null \
	  || $(MAKE) --no-print-directory torch
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $(SERVE) $@

# The sandbox for code that a model wrote; where it cannot be installed its tests say so and are skipped.
.PHONY: sandbox
sandbox:
	@if [ "$$(uname -s)" = Linux ] && ! command -v bwrap >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing bubblewrap, the sandbox for code that a model wrote"; \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null; } \
	      || echo "bubblewrap could not be installed; what needs it is skipped"; \
	  else echo "For the sandbox: sudo apt-get install -y bubblewrap"; fi; fi

# See requirements/README.md for the two builds.
.PHONY: torch
torch:
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	  echo "torch $(TORCH), build for CPUs"; \
	  $(PIP) install "torch==$(TORCH)+cpu" || { \
	    echo "No CPU build found; taking PyPI's, which brings 5.9 GB of CUDA. Another way: requirements/README.md"; \
	    $(PIP) install -r requirements/torch.txt; }; \
	else $(PIP) install -r requirements/torch.txt; fi

# A few days' distance (LOCK_BEFORE) keeps out what was published by mistake or by a thief and withdrawn soon after.
LOCK_BEFORE ?= $(shell date -u -d '-4 days' +%Y-%m-%d 2>/dev/null || date -u -v-4d +%Y-%m-%d)
COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --exclude-newer $(LOCK_BEFORE)

proving-ground: $(DEV)
	$(BIN)/python -m benchmarks.proving_ground $(ARGS)

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	$(COMPILE) pyproject.toml --group build -o requirements/serve.lock
	$(COMPILE) pyproject.toml requirements/torch-needs.in --extra train --group dev \
	  -c requirements/serve.lock --no-emit-package torch --override requirements/without-torch.txt -o requirements/dev.lock

clean:
	rm -rf $(VENV) .venv-lock .pytest_cache .ruff_cache .import_linter_cache dist build
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
