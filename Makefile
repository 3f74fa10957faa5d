# Targets: make demo | download-test-data | test | test-zarr3 | test-lowest | lint | docs | docs-pictures | release-check |
# release | coverage-table | coverage-check | bench-accuracy | bench-report | bench-kernels | bench-scaling |
# bench-scheduling | bench-long | bench-trust | bench-gpu | clean.
# PYTHON=/path/to/python3.12 chooses another interpreter.

VENV := .venv
BIN := $(VENV)/bin
# The environment is remade when pyproject.toml has other content, whatever its time stamp says.
CONTENT := $(shell cksum < pyproject.toml | cut -d ' ' -f 1)
PACKAGE := $(VENV)/package-$(CONTENT)
TOOLS := $(VENV)/tools-$(CONTENT)
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
# The lowest versions have binary packages for the lowest Python only.
LOWEST_PYTHON ?= $(or $(shell command -v python3.11),$(PYTHON))
LOWEST := .venv-lowest/made-$(CONTENT)
ZARR3 := .venv-zarr3/made-$(CONTENT)
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo download-test-data test test-zarr3 test-lowest lint docs docs-pictures release-check release \
  coverage-table coverage-check bench-accuracy bench-report bench-kernels bench-scaling bench-scheduling \
  bench-long bench-gpu bench-trust clean

demo: $(PACKAGE)
	$(BIN)/yass demo demo

# YASS's name for it. Nothing is downloaded: tests simulate what they need, and this writes a recording to play with.
download-test-data: $(PACKAGE)
	$(BIN)/yass simulate demo/recording

test: $(TOOLS)
	$(BIN)/python -m pytest $(PYTEST_ARGS) --junitxml=build/tests.xml

# The tests of the store and of a sort with zarr 3: SpikeInterface, which the other tests need, asks for zarr 2.
test-zarr3: $(ZARR3)
	.venv-zarr3/bin/python -m pytest $(PYTEST_ARGS) tests/test_store.py tests/test_sort_same_answer.py

# The same with the lowest version of every dependency that pyproject.toml allows.
test-lowest: $(LOWEST)
	.venv-lowest/bin/python -m pytest $(PYTEST_ARGS) tests/test_config.py tests/test_readers.py tests/test_store.py \
	  tests/test_sort_same_answer.py

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation, into build/docs; warnings are errors. Its pictures are kept in the repository.
docs: $(TOOLS)
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs

docs-pictures: $(TOOLS)
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/draw_pipeline.py

# Versions, changelog, clean tree, tests, the same bytes twice; `release` tags as well.
release-check: $(TOOLS)
	$(BIN)/python scripts/release.py --dry-run

release: $(TOOLS)
	$(BIN)/python scripts/release.py

# What YASS's documentation promises: docs/yass-coverage.md from the tests' marks, and the proof that they look.
coverage-table: $(TOOLS)
	$(BIN)/python tests/coverage_rows.py table

coverage-check: $(TOOLS)
	$(BIN)/python tests/coverage_rows.py check

# The accuracy benchmark. Choose with DATASETS="np32 mea49" SORTERS="yass_dask lupin" SEEDS="1 2 3" DATA=folder of the
# real templates, for hybrids; OPTIONS takes the rest (--oracle, --resume, --jobs 1, --timeout 3600).
DATASETS ?= all
SORTERS ?= yass_dask lupin spykingcircus2 tridesclous2 mountainsort5 kilosort4
SEEDS ?= 1 2 3
DATA ?= ../shared/data
OPTIONS ?= --oracle --warm
SECONDS_EACH ?=
REQUIREMENTS := benchmarks/accuracy/requirements
BENCH := .venv-bench/made-$(shell cat pyproject.toml $(REQUIREMENTS)-bench.txt | cksum | cut -d ' ' -f 1)
PEERS := .venv-peers/made-$(shell cksum < $(REQUIREMENTS)-peers.txt | cut -d ' ' -f 1)
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check

bench-accuracy: $(BENCH) $(if $(filter-out yass_dask% oracle,$(SORTERS)),$(PEERS))
	.venv-bench/bin/python -m benchmarks.accuracy run --datasets $(DATASETS) --sorters $(SORTERS) --seeds $(SEEDS) \
	  --data $(DATA) $(if $(SECONDS_EACH),--seconds $(SECONDS_EACH)) $(OPTIONS)
	.venv-bench/bin/python -m benchmarks.accuracy report

bench-report: $(BENCH)
	.venv-bench/bin/python -m benchmarks.accuracy report

# Kernels against their floors and NumPy; sorts of more channels and longer recordings. OPTIONS as --help tells.
bench-kernels: $(BENCH)
	.venv-bench/bin/python -m benchmarks.kernels $(filter-out --oracle --warm,$(OPTIONS))

bench-scaling: $(BENCH)
	.venv-bench/bin/python -m benchmarks.scaling $(filter-out --oracle --warm,$(OPTIONS))

# Where a sort stops scaling: measured tasks laid on 1 to 256 workers.
bench-scheduling: $(BENCH)
	.venv-bench/bin/python -m benchmarks.scheduling $(filter-out --oracle --warm,$(OPTIONS))

# Hours of 32 channels and minutes of 2048, sorted whole without a file of their traces; goes on where it was stopped.
bench-long: $(BENCH)
	.venv-bench/bin/python -m benchmarks.long $(filter-out --oracle --warm,$(OPTIONS))

# What a GPU is worth: its kernels against its floors, a whole sort by every backend that finds it.
bench-gpu: $(BENCH)
	.venv-bench/bin/python -m benchmarks.kernels
	.venv-bench/bin/python -m benchmarks.backends --channels 384

# Whether a sort can be trusted: 20 random sorts compared byte by byte, faults injected at random moments, a fuzzer.
bench-trust: $(BENCH)
	.venv-bench/bin/python -m benchmarks.trust same
	.venv-bench/bin/python -m benchmarks.trust faults
	.venv-bench/bin/python -m benchmarks.trust fuzz

$(BENCH):
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/$(PIP_INSTALL) --requirement $(REQUIREMENTS)-bench.txt --editable .
	touch $@

$(PEERS):
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/$(PIP_INSTALL) --requirement $(REQUIREMENTS)-peers.txt
	touch $@

$(PACKAGE):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(ZARR3):
	$(PYTHON) -m venv --clear .venv-zarr3
	.venv-zarr3/bin/python -m pip install --quiet --disable-pip-version-check --editable . 'zarr>=3' hypothesis pytest \
	  pytest-xdist
	touch $@

$(LOWEST):
	$(LOWEST_PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python .ci/lowest_bounds.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	  --constraint .venv-lowest/lowest.txt --requirement .venv-lowest/lowest.txt hypothesis pytest pytest-xdist
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(TOOLS): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
