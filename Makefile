# make demo | test | lint | clean.  PYTHON=/path/to/python3.12 chooses another interpreter.

VENV := .venv
BIN := $(VENV)/bin
# The environment is remade when pyproject.toml has other content, whatever its time stamp says.
CONTENT := $(shell cksum < pyproject.toml | cut -d ' ' -f 1)
PACKAGE := $(VENV)/package-$(CONTENT)
TOOLS := $(VENV)/tools-$(CONTENT)
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo test lint clean

demo: $(PACKAGE)
	$(BIN)/yass demo demo

test: $(TOOLS)
	$(BIN)/python -m pytest $(PYTEST_ARGS) --junitxml=build/tests.xml

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/mypy

$(PACKAGE):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(TOOLS): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
