# On a fresh machine, `make demo` and `make test` do everything. Needs Python 3.10 or
# later with its venv module, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := agentcall tools server_launch examples tests benchmarks pages
# markers that `make test` leaves to other targets
FAST := not lmdeploy and not embedded and not mcp and not deploy and not agentdojo \
	and not durable and not docs and not web and not processes and not servers
TYPED := agentcall tools/agentcall_tools server_launch/agentcall_server examples pages

.PHONY: demo test check test-processes test-lmdeploy test-embedded test-durable test-mcp test-servers test-web \
	test-deploy test-agentdojo docs test-all format coverage bench bench-peers bench-counts bench-robustness \
	bench-search clean

demo: $(VENV)/.embedded
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "$(FAST)"

# Starts many programs: the examples, the commands in the docs, isolated tools, a supervisor.
test-processes: $(VENV)/.test
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m processes

test-lmdeploy: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/lmdeploy -m lmdeploy

# Kills processes; needs PostgreSQL's programs (Debian's package postgresql).
test-durable: $(VENV)/.test
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m durable

test-embedded: $(VENV)/.test $(VENV)/.embedded
	$(BIN)/python -m pytest -q tests -m embedded

test-mcp: $(VENV)/.test
	$(BIN)/python -m pytest -q -n auto --dist worksteal tests -m mcp

# Starts llama.cpp, vLLM, `transformers serve` and LiteLLM; installs them on first use, 3 GB.
# `SERVERS=llama_cpp` runs the tests of llama.cpp alone, which needs nothing of that.
test-servers: $(VENV)/.servers
	$(BIN)/python -m pytest -q tests/servers -m servers $(if $(SERVERS),-k $(SERVERS))

# Needs Debian's package chromium, which playwright drives.
test-web: $(VENV)/.web
	$(BIN)/python -m pytest -q tests/serving/web -m web

test-deploy: $(VENV)/.deploy
	$(BIN)/python -m pytest -q tests -m deploy

# Builds the site from docs/ and the docstrings in build/docs/site; a warning or dead link is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m pytest -q tests -m docs

test-agentdojo: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/agentdojo -m agentdojo

check: $(VENV)/.check
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(TYPED)
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/project/test_overhead.py

test-all: check test test-processes docs test-durable test-lmdeploy test-embedded test-mcp test-servers test-web \
	test-deploy test-agentdojo

# Fails below the floor in pyproject.toml. COVERAGE_CORE=sysmon is faster, from Python 3.12 on.
coverage: $(VENV)/.test
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "$(FAST)" --cov \
		--cov-report=term:skip-covered

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.overhead

bench-peers: $(VENV)/.test
	$(BIN)/python -m benchmarks.overhead --peers

# Records the counts that tests/project/test_overhead.py checks, for this version of Python.
bench-counts: $(VENV)/.test
	$(BIN)/python -m benchmarks.overhead.counts --keep

bench-robustness: $(VENV)/.test
	$(BIN)/python -m benchmarks.robustness --peers

bench-search: $(VENV)/.test
	$(BIN)/python -m benchmarks.tool_search

format: $(VENV)/.check
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# If Debian's python3-venv is not installed, the venv is created without pip, and pip installs into it
# from outside. pip is upgraded first, because old versions resolve slowly.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV) || $(PYTHON) -m venv --clear --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --upgrade pip
	touch $@

$(VENV)/.embedded: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[embedded,tools]"
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $@

$(VENV)/.web: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e ".[webtest]"
	touch $@

$(VENV)/.servers: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e ".[servertest]"
	touch $@

$(VENV)/.deploy: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e ".[test,deploy]"
	touch $@

$(VENV)/.docs: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e ".[test,docs]"
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e ".[test,check,embedded]"
	touch $@

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .coverage htmlcov
