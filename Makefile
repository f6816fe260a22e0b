# `make` lists the targets. Everything that is made goes to .venv, build and dist.

PYTHON       ?= python3
VENV         ?= .venv
CLANG        ?= clang
FUZZ_SECONDS ?= 60
NEGOTIATIONS ?= 10000
PYTEST_ARGS  ?=
# Processes that share the tests, each file in one of them; 0: one after the other, in one process.
TEST_JOBS    ?= $(shell nproc)
BENCH_ARGS   ?=
# What `make test-installed` runs: what needs the package only, not the source tree.
INSTALLED_TESTS ?= tests/unit tests/vectors tests/property tests/config tests/protocol \
                   tests/packaging/test_artifacts.py tests/packaging/test_import.py

export PYTHON
PY := $(VENV)/bin/python
ifeq ($(origin CC),default)
CC := gcc
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build debug test test-installed test-sanitized soak-control c-test lint lint-python lint-c format \
        fuzz fuzz-corpus fuzz-targets bench instructions interop selftests test-kernel kernel-vectors docs dist clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

EDITABLE = PYTHONWARNINGS='ignore:Editable installation' \
    $(PY) -m pip install --quiet --no-build-isolation --editable

# The environment: one stamp for each set of extras, renewed when the project file changes.

$(VENV)/bin/python:
	@tools/system-packages build
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(VENV)/.build: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet $(shell sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ,)
	@touch $@

$(VENV)/.runtime: pyproject.toml setup.py $(VENV)/.build
	@tools/system-packages build
	$(EDITABLE) .
	@touch $@

$(VENV)/.extra-%: pyproject.toml | $(VENV)/.runtime
	$(EDITABLE) '.[$*]'
	@touch $@

build: $(VENV)/.runtime ## build the extension in place
	$(PY) setup.py --quiet build_ext --inplace

debug: export OVPN_DCO_DEBUG = 1
debug: build ## the same without optimisation, with assertions

SIDE_BY_SIDE := -n $(TEST_JOBS) --dist loadfile

# PYTEST_ARGS may leave one of the runs without a test, of which pytest says 5; not both.
test: build $(VENV)/.extra-test ## build, then run all tests (PYTEST_ARGS=...)
	@tools/system-packages test
	@alone=5 beside=0; \
	if [ $(TEST_JOBS) != 0 ]; then (set -x; $(PY) -m pytest --alone $(PYTEST_ARGS)); alone=$$?; fi; \
	case $$alone in 0 | 5) ;; *) exit $$alone ;; esac; \
	(set -x; $(PY) -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)) || beside=$$?; \
	if [ $$beside = 5 ]; then exit $$alone; else exit $$beside; fi

dist: $(VENV)/.extra-test ## sdist, and the wheel built from it, in dist/
	rm -rf dist
	$(PY) -m build --no-isolation --outdir dist . >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	@ls -l dist

# From outside the tree, so that only what the wheel brought can be imported.
test-installed: dist ## run tests against the wheel in a fresh environment
	rm -rf build/installed
	$(PYTHON) -m venv build/installed/venv
	build/installed/venv/bin/python -m pip install --quiet "$$(ls -d $(CURDIR)/dist/*.whl)[test]"
	cp -r tests pyproject.toml build/installed
	cd build/installed && OVPN_DCO_DIST=$(CURDIR)/dist OVPN_DCO_INSTALLED=1 \
	    venv/bin/python -m pytest -m 'not slow' $(SIDE_BY_SIDE) $(PYTEST_ARGS) \
	    $$(for path in $(INSTALLED_TESTS); do if [ -e $$path ]; then echo $$path; fi; done)

test-sanitized: export OVPN_DCO_SANITIZE ?= address,undefined
# Without the search of all memory for a key: the shadow of ASan is terabytes of it.
test-sanitized: build $(VENV)/.extra-test ## unit tests with ASan and UBSan in the extension
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=halt_on_error=1 PYTHONMALLOC=malloc \
	    $(PY) -m pytest -m 'not slow' $(PYTEST_ARGS) tests/unit tests/property tests/security \
	    --deselect tests/security/test_secrets.py::test_memory_of_a_deleted_key_is_cleansed \
	    --deselect tests/security/test_secrets.py::test_memory_of_epoch_secrets_is_cleansed \
	    --ignore tests/security/test_fork.py

soak-control: build $(VENV)/.extra-test ## handshakes and renegotiations over bad links, NEGOTIATIONS (10000) of them
	nice $(PY) tests/control_soak.py --negotiations $(NEGOTIATIONS)

# C: tests, lint, fuzzing. Objects of each variant live in build/c/VARIANT.

BANDS     := codec sync peers io engine
C_HEADERS := $(sort $(wildcard ext/*.h ext/*/*.h))
C_CORE    := $(foreach band,$(BANDS),$(sort $(wildcard ext/$(band)/*.c)))
C_TESTS   := $(sort $(wildcard ext/tests/*.c))
C_FUZZ    := $(sort $(wildcard ext/fuzz/*.c))
C_PROBE   := benchmarks/instructions/probe.c
C_ALL     := $(C_CORE) $(sort $(wildcard ext/bench/*.c)) $(C_TESTS) $(C_FUZZ) $(C_PROBE)

CFLAGS    := -std=gnu11 -pthread -Iext -Wall -Wextra
CRYPTO     = $(shell pkg-config --libs libcrypto)
SANITIZE  := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all

CC_asan     = $(CC)
CC_tsan     = $(CC)
CC_gcc      = $(CC)
CC_clang    = $(CLANG)
FLAGS_asan := $(SANITIZE) -fsanitize=address,undefined
FLAGS_tsan := $(SANITIZE) -fsanitize=thread -Wno-tsan
# As setup.py builds the wheel, since instructions are counted in these objects.
FLAGS_gcc  := -O3 -fPIC -fvisibility=hidden -Werror
FLAGS_clang:= -O2 -Werror

define variant
build/c/$(1)/%.o: %.c Makefile
	@mkdir -p $$(@D)
	@echo '$$(CC_$(1)) ($(1)) $$<'
	@$$(CC_$(1)) $$(CFLAGS) $$(FLAGS_$(1)) -MMD -MP -c $$< -o $$@
build/c/$(1)/%: build/c/$(1)/ext/tests/%.o $$(C_CORE:%.c=build/c/$(1)/%.o)
	@$$(CC_$(1)) $$(FLAGS_$(1)) -pthread $$^ $$(CRYPTO) -o $$@
endef
$(foreach name,asan tsan gcc clang,$(eval $(call variant,$(name))))
.SECONDARY:
-include $(shell find build/c -name '*.d' 2>/dev/null)

TESTS_TSAN := $(patsubst ext/tests/%.c,build/c/tsan/%,$(filter ext/tests/tsan_%,$(C_TESTS)))
TESTS_ASAN := $(patsubst ext/tests/%.c,build/c/asan/%,$(filter-out ext/tests/tsan_%,$(C_TESTS))) \
              build/c/asan/tsan_engine build/c/asan/tsan_streams

c-test: ## C tests under ASan and UBSan, tsan_*.c under ThreadSanitizer, whole engines under both
	@tools/system-packages build
	@$(MAKE) --no-print-directory $(TESTS_ASAN) $(TESTS_TSAN)
	@for test in $(TESTS_ASAN) $(TESTS_TSAN); do \
	    echo "run $$test"; $(NO_ASLR) $$test || exit 1; \
	done
	@echo "c-test: $(words $(TESTS_ASAN) $(TESTS_TSAN)) programs passed"

# ThreadSanitizer of older compilers cannot live with the address randomisation of newer kernels.
NO_ASLR = $(shell setarch -R true 2>/dev/null && echo setarch -R)

lint: lint-python lint-c ## ruff, mypy --strict, clang-format, and all C with -Werror

lint-python: $(VENV)/.extra-lint
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --quiet --check .
	$(VENV)/bin/mypy

lint-c: $(VENV)/.extra-lint $(C_ALL:%.c=build/c/gcc/%.o)
	$(VENV)/bin/clang-format --dry-run -Werror $(C_HEADERS) $(C_ALL)
	@if command -v $(CLANG) >/dev/null; then \
	    $(MAKE) --no-print-directory $(C_ALL:%.c=build/c/clang/%.o); \
	else echo 'no clang here: C compiled with gcc only'; fi

format: $(VENV)/.extra-lint ## rewrite Python and C in the project's format
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(C_HEADERS) $(C_ALL)

FUZZ_TARGETS := $(C_FUZZ:ext/fuzz/%.c=build/fuzz/%)

build/fuzz/%: ext/fuzz/%.c $(wildcard ext/codec/*.c) $(C_HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(CFLAGS) $(SANITIZE) -fsanitize=fuzzer,address,undefined \
	    $< $(wildcard ext/codec/*.c) $(CRYPTO) -o $@

fuzz-targets:
	@tools/system-packages fuzz
	@$(MAKE) --no-print-directory $(FUZZ_TARGETS)

fuzz: fuzz-targets ## each libFuzzer target for FUZZ_SECONDS (60)
	@for target in $(notdir $(FUZZ_TARGETS)); do \
	    mkdir -p build/fuzz/found/$$target ext/fuzz/corpus/$$target; \
	    build/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
	        -artifact_prefix=build/fuzz/$$target- \
	        build/fuzz/found/$$target ext/fuzz/corpus/$$target || exit 1; \
	done

fuzz-corpus: fuzz-targets ## each libFuzzer target over its corpus only
	@for target in $(notdir $(FUZZ_TARGETS)); do \
	    build/fuzz/$$target -runs=0 ext/fuzz/corpus/$$target 2>build/fuzz/$$target.log \
	        || { cat build/fuzz/$$target.log; exit 1; }; \
	    echo "fuzz-corpus: $$target, $$(ls ext/fuzz/corpus/$$target | wc -l) inputs"; \
	done

bench: build $(if $(findstring --plot,$(BENCH_ARGS)),$(VENV)/.extra-plot) ## python -m ovpn_dco.bench on real traffic (BENCH_ARGS=...)
	@tools/system-packages bench
	$(PY) -m ovpn_dco.bench $(BENCH_ARGS)

build/c/gcc/instructions: $(C_PROBE:%.c=build/c/gcc/%.o) $(C_CORE:%.c=build/c/gcc/%.o)
	@$(CC_gcc) -pthread -Wl,-z,now $^ $(CRYPTO) -o $@

instructions: build/c/gcc/instructions ## instructions per packet, against their baseline
	@tools/system-packages instructions
	@$(PYTHON) benchmarks/instructions/instructions.py $<

# The page is written when tests failed, too: it shows the last result, whatever that is.
interop: build $(VENV)/.extra-test ## every case against stock openvpn; writes docs/interop.md
	@tools/system-packages test
	OVPN_DCO_INTEROP=all $(PY) -m pytest tests/interop -n $(TEST_JOBS) --junitxml=build/interop.xml $(PYTEST_ARGS); \
	    code=$$?; $(PY) tools/interop-page build/interop.xml && exit $$code

# The gate runs the sequence in the kernel's own variants, and quicker.
selftests: build $(VENV)/.extra-test ## the kernel driver's selftests in every combination, ten minutes
	@tools/system-packages test
	OVPN_DCO_SELFTESTS=all $(PY) -m pytest -n $(TEST_JOBS) tests/scenarios $(PYTEST_ARGS)

# In a virtual machine, which is built on the first run: some minutes, 1.2 GB in ~/.cache. It is booted
# for each of these, so that none takes the others down; or once, for PYTEST_ARGS in their place.
KERNEL_TESTS ?= tests/kernel tests/netlink tests/scenarios
IN_GUEST      = PYTHON=$(PY) nice tools/kernel-guest/pytest
test-kernel: $(VENV)/.extra-test ## tests with the kernel's own ovpn driver (PYTEST_ARGS=...)
	@rm -rf build/kernel
	@failed=0; $(if $(PYTEST_ARGS),$(IN_GUEST) $(PYTEST_ARGS) || failed=1;,$(foreach suite,$(KERNEL_TESTS), \
	    OUT=build/kernel/$(notdir $(suite)) $(IN_GUEST) $(suite) || failed=1;)) exit $$failed

PYROUTE2 = $$($(PY) -c 'import pyroute2; print(*pyroute2.__path__)')
kernel-vectors: $(VENV)/.runtime ## what that driver is asked, answers and tells, recorded anew
	@mkdir -p build && rm -f build/kernel/netlink.json
	nice tools/kernel-guest/build
	nice tools/kernel-guest/run -o build/kernel -r build/kernel-memory tools/kernel-guest/record \
	    ovpn_dco tests $(PYROUTE2) | $(PY) tests/kernel/exhaust.py build/kernel-memory
	rm build/kernel-memory
	cp build/kernel/netlink.json tests/vectors/netlink.json

docs: build $(VENV)/.extra-docs ## documentation with the API reference, in build/docs
	$(PY) -m sphinx -q -W -b html docs build/docs
	@echo 'build/docs/index.html'

clean: ## remove everything that was built; the environment stays
	rm -rf build dist *.egg-info ovpn_dco/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(VENV)/.runtime
