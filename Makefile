# Param Console. `make run` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv finds local wheel folders by its own variable.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_HTTP_TIMEOUT ?= 180

.PHONY: run setup demo test check format bench bench-gateway vllm label-studio lock revision clean
.DEFAULT_GOAL := run

run: setup ## Set up, load demo data on the first start, then start everything (Ctrl-C stops it)
	$(BIN)/param setup --demo
	$(BIN)/param up

setup: $(VENV)/installed ## Create .venv and install what the lock file names; start nothing

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "expected Python 3.11 or newer, found $$($(PYTHON) --version); name one with: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check uv 2>/dev/null; then \
	  UV=$$(command -v uv || echo $(BIN)/uv); \
	  $$UV pip install -q --python $(BIN)/python -r requirements.lock && \
	  $$UV pip install -q --python $(BIN)/python --no-deps -e . ; \
	else \
	  $(BIN)/python -m pip install -q -r requirements.lock && \
	  $(BIN)/python -m pip install -q --no-deps -e . ; \
	fi
	@touch $@

demo: setup ## The whole loop without a browser, with the proof of each stage
	$(BIN)/param demo

check: setup ## Style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## All tests; what is missing on this machine is skipped by name
	$(BIN)/pytest -n 2 --dist loadfile

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Every benchmark prints its table
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python -m bench.$$(basename $$file .py) || exit 1; done

bench-gateway: setup ## The gateway beside LiteLLM's proxy, which gets an environment of its own (.venv-litellm)
	@test -x .venv-litellm/bin/litellm || { $(PYTHON) -m venv .venv-litellm && .venv-litellm/bin/python -m pip install -q \
	  "litellm[proxy]==1.106.2" httptools opentelemetry-sdk opentelemetry-exporter-otlp; }
	$(BIN)/python -m bench.gateway --peer .venv-litellm/bin/litellm

vllm: setup ## Real vLLM in an environment of its own (.venv-vllm), for `param up --engine vllm`
	$(BIN)/python -m services.inference.install_vllm

label-studio: setup ## A real Label Studio server in an environment of its own (.venv-label-studio)
	$(BIN)/python -m labeling.label_studio.install

lock: ## Compile requirements.lock from pyproject.toml
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --upgrade-package torch \
	  --no-emit-find-links --custom-compile-command "make lock" -q -o requirements.lock
	sed -i.bak 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements.lock && rm requirements.lock.bak

revision: setup ## Write the next migration from the tables: make revision m="what changes"
	$(BIN)/python -m services.db.revise "$(m)"

clean:
	rm -rf $(VENV) .venv-vllm .venv-label-studio .venv-litellm build *.egg-info
