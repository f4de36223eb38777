# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
OUT ?= demo
BIN := .venv/bin

.PHONY: setup demo test check format screenshots clean

setup: .venv/ready

# The constraints keep torch to a build that needs no GPU libraries; `make setup CONSTRAINTS=` takes the newest one.
CONSTRAINTS ?= -c constraints.txt
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[test]'
	touch $@

demo: setup
	$(BIN)/diff4mmlits demo --out "$(OUT)"

test: setup check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: setup
	DIFF4MMLITS_SCREENSHOTS=1 $(BIN)/python -m pytest Testing/Python/gui/test_screenshots.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
