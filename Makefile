# The same words locally and in CI. PYTHON is only used to create the environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo serve test test-components soak check bench

$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed: $(VENV)/.base client/pyproject.toml
	$(BIN)/pip install --quiet --editable ".[dev]" --editable client
	touch $@

# The reference embedder needs torch, which never enters our own environment.
$(VENV)-sentence-transformers/.installed:
	$(PYTHON) -m venv $(VENV)-sentence-transformers
	$(VENV)-sentence-transformers/bin/pip install --quiet torch==2.13.0
	$(VENV)-sentence-transformers/bin/pip install --quiet "sentence-transformers>=6,<7"
	touch $@

# vLLM's pins conflict with ours; this is also the test that the command installs what runs.
$(VENV)-vllm/.installed: $(VENV)/.installed llm_endpoint/engine_install.py
	$(BIN)/headrace models install-engine vllm --cpu --folder $(VENV)-vllm
	touch $@

# Ray is 240 MB, and no test of ours but its own is to meet it.
$(VENV)-ray/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/pip install --quiet --editable ".[ray]" "pytest>=9.2"
	touch $@

# The models of tests/components/test_pyfunc.py run in an environment of their own.
$(VENV)-mlflow/.installed:
	$(PYTHON) -m venv $(VENV)-mlflow
	$(VENV)-mlflow/bin/pip install --quiet "mlflow-skinny>=3.10,<3.18" "pandas>=2.2,<3" "langchain-openai>=1.7,<2"
	touch $@

# Other people's clients, whose pins (openai<3) are not ours.
$(VENV)-sdks/.installed:
	$(PYTHON) -m venv $(VENV)-sdks
	$(VENV)-sdks/bin/pip install --quiet "openai>=2,<3" "langchain-openai>=1.7,<2" "llama-index-llms-openai-like>=0.8,<0.9" "llama-index-embeddings-openai-like>=0.4,<0.5"
	touch $@

demo: $(VENV)/.base
	$(BIN)/headrace demo

serve: $(VENV)/.base
	$(BIN)/headrace serve

test: $(VENV)/.installed
	$(BIN)/pytest

test-components: $(VENV)/.installed $(VENV)-sentence-transformers/.installed $(VENV)-ray/.installed $(VENV)-mlflow/.installed $(VENV)-vllm/.installed $(VENV)-sdks/.installed
	HEADRACE_SDKS_PYTHON=$(abspath $(VENV)-sdks)/bin/python HEADRACE_MLFLOW_PYTHON=$(abspath $(VENV)-mlflow)/bin/python HEADRACE_ST_PYTHON=$(abspath $(VENV)-sentence-transformers)/bin/python HEADRACE_VLLM=$(abspath $(VENV)-vllm)/bin/vllm $(BIN)/pytest tests/components -o norecursedirs='.* ray_cluster'
	$(VENV)-ray/bin/pytest tests/components/ray_cluster -o norecursedirs='.*'

# Hours of what `test` does for a minute; HEADRACE_SEED=… repeats a run that failed.
soak: $(VENV)/.installed
	HEADRACE_OPERATIONS=10000 HEADRACE_ROUNDS=5000 $(BIN)/pytest -s --show-capture=no tests/pipelines/test_every_history.py tests/pipelines/test_kills.py

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	$(BIN)/headrace demo
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/batches.py
	$(BIN)/python benchmarks/endpoint.py
	HEADRACE_ST_PYTHON=$(abspath $(VENV)-sentence-transformers)/bin/python $(BIN)/python benchmarks/embedding.py
	$(BIN)/python benchmarks/filters.py
	$(BIN)/python benchmarks/fulltext.py
	$(BIN)/python benchmarks/hybrid.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kinds.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/limits.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/freshness.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sync.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bulk.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/verify.py
	$(BIN)/python benchmarks/rerank.py
