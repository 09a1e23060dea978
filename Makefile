# Two commands do all the set-up: `make demo` and `make test` make the virtual environment that they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: .venv/demo.ready  ## train, strip, export and price a network on the embedded real digits
	rm -rf runs/demo
	$(BIN)/snnsc train digits --out runs/demo
	$(BIN)/snnsc strip runs/demo/last.pt
	$(BIN)/snnsc export runs/demo/last.stripped.pt
	$(BIN)/snnsc energy runs/demo/model.onnx

test: .venv/test.ready  ## run the tests, a process for each core
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadscope

lint: .venv/test.ready  ## format check, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:  ## remove the virtual environment
	rm -rf .venv

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/demo.ready: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/test.ready: pyproject.toml | .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,peers]'
	touch $@ .venv/demo.ready
