# Two commands are enough on a fresh Debian-like machine:
#   make demo      an embedded instance under var/demo, a tour through it, then it keeps serving
#   make test      linters, types, import contracts and every test
# Both install what is missing: Debian packages (as root or through sudo; otherwise the line to type is printed) and Python
# packages into .venv from the hashed locks.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
ARGS ?=
# Processes that tests run in, each with servers and instances of its own; WORKERS=0 runs them one after another.
WORKERS ?= 2
NAME ?=

# The first interpreter that is new enough and can make a virtual environment; asked for only when a recipe needs it,
# because the Debian packages may bring it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	"$$p" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

NODE_PROJECT := tests/conformance/openid_client

.PHONY: help demo test lint types contracts bench lock demo-packages test-packages clean

help:
	@echo 'make demo [ARGS="--once --pdf FILE"]   run the service on http://localhost:8080 and walk through it'
	@echo 'make test [ARGS="-k name"]             everything that must hold before a change is merged'
	@echo 'make lint                              ruff, mypy and the import contracts only'
	@echo 'make bench [NAME=ocsp]                 measurements against peers, written to var/bench.json'
	@echo 'make lock                              resolve the locked requirements again (needs uv)'

demo: demo-packages $(VENV)/.service
	@$(BIN)/tamga demo $(ARGS)

test: test-packages lint $(NODE_PROJECT)/node_modules/.installed
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

lint: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: test-packages $(VENV)/.tools
	$(BIN)/python -m tests.bench $(NAME) $(ARGS)

demo-packages:
	@deploy/install-packages demo

test-packages:
	@deploy/install-packages test

# .service: what a serving machine needs, and the project itself; .tools: the linters and test libraries on top.
$(VENV)/.service: requirements.lock pyproject.toml | demo-packages
	@test -x $(BIN)/python || { test -n "$(PYTHON)" || { echo 'No Python 3.11 or newer with venv was found.' >&2; exit 1; }; \
		$(PYTHON) -m venv $(VENV); }
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tools: requirements-test.lock $(VENV)/.service
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements-test.lock
	@touch $@

# The certified relying-party library is a Node package; without Node its test says so and is skipped.
$(NODE_PROJECT)/node_modules/.installed: $(NODE_PROJECT)/package-lock.json
	@if command -v npm >/dev/null 2>&1; then cd $(NODE_PROJECT) && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.installed; \
	else echo 'npm is not installed: the openid-client test will be skipped'; fi

# The build backend and editables are locked with the rest, so that nothing is fetched unhashed to build the project.
lock:
	@command -v uv >/dev/null || { echo 'uv is needed to resolve the locks: pipx install uv' >&2; exit 2; }
	printf '%s\n' 'hatchling>=1.27' 'editables>=0.5' | $(LOCK_COMMAND) --output-file requirements.lock pyproject.toml -
	printf '%s\n' 'hatchling>=1.27' 'editables>=0.5' | $(LOCK_COMMAND) --extra test --constraint requirements.lock \
		--output-file requirements-test.lock pyproject.toml -

LOCK_COMMAND := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command 'make lock'

clean:
	rm -rf var/demo var/test-artifacts .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dist
