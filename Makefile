# make demo, make test: both set up what they need on a machine that has only Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/dimoo demo

test: $(VENV)/.installed-dev
	$(BIN)/python scripts/test.py

check: $(VENV)/.installed-dev
	scripts/check

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and pinned: without the pin, pip would fetch a build with several gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,train,serve]'
	touch $@

clean:
	rm -rf $(VENV)
