# The two commands of the README: `make demo` and `make test`. `make bench` measures speed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types bench build check-wheel screenshots clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/developer: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

demo: $(VENV)/installed
	$(BIN)/mqf-tui demo

# Two at a time, each with one thread for its matrices; a file's tests stay together, since they share models.
test: $(VENV)/developer
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/developer
	$(BIN)/ruff check .

types: $(VENV)/developer
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/developer
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/summarising.py
	$(BIN)/python benchmarks/stopping.py
	$(BIN)/python benchmarks/racing.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/first_number.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/ranks.py
	$(BIN)/python benchmarks/discovery.py
	$(BIN)/python benchmarks/app.py

build: $(VENV)/developer
	rm -rf dist
	$(BIN)/python -m build --quiet

# The built wheel, in an environment that has never seen this folder, must run the demo.
check-wheel: build
	rm -rf build/fresh
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet dist/*.whl
	cd build && MQF_TUI_DATA_DIR=fresh/data fresh/bin/mqf-tui demo --max-chunks 2

screenshots: $(VENV)/developer
	$(BIN)/python tools/make_screenshots.py

clean:
	rm -rf $(VENV) build dist
