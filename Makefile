# Entry points; each is a short script in tools/ or one Bazel command. `make help` lists them.

BAZEL ?= bazel
export BAZEL

.DEFAULT_GOAL := help
.PHONY: deps build wheel demo test sim chaos sanitize coverage bench lint format fuzz docs clean help

# What runs on a machine: the rest of the tree is tests and benchmarks.
PRODUCT := //daemon:holdfastd //cli:holdfast //client:libholdfast.so

deps: ## install missing Debian packages and the Python environment
	@tools/install_deps.sh

build: deps ## build everything, optimised
	$(BAZEL) build --config=opt //...

wheel: deps ## one file for pip in dist/: the package, the programs, and every library that they need
	$(BAZEL) build --config=opt $(PRODUCT)
	@tools/wheel/build.py "$$($(BAZEL) info --config=opt bazel-bin 2>/dev/null)" dist

demo: deps ## build what runs, kill it in every way, and compare bits
	$(BAZEL) build --config=opt $(PRODUCT)
	@tools/demo.sh

sanitize: deps ## all C++ tests under the address, undefined-behaviour and thread sanitizers
	@STAGES="asan tsan" tools/run_tests.sh

test: deps ## rules, all tests, sanitizers, a short fuzz search; last line: the counts
	@tools/run_tests.sh

sim: deps ## play SEEDS (10000) random runs of several nodes, from seed SEED_BASE (1) on
	$(BAZEL) test //tests/sim:sim_random_test --test_output=errors --nocache_test_results \
	  --test_timeout=3600 --test_env=HOLDFAST_SIM_SEEDS="$(or $(SEEDS),10000)" \
	  --test_env=HOLDFAST_SIM_SEED_BASE="$(or $(SEED_BASE),1)"

chaos: deps ## FAULTS (100) random faults on four daemons that protect a job, by SEED (1)
	$(BAZEL) build --config=opt $(PRODUCT)
	@PYTHONPATH=client/python:tools/demo:tests/python "$$(tools/venv_path.sh)/bin/python" \
	  tests/python/chaos.py --faults "$(or $(FAULTS),100)" --seed "$(or $(SEED),1)"

coverage: deps ## line coverage of daemon, storage_tiers, layout, ec, client by the C++ tests
	@tools/run_coverage.sh

bench: deps ## run all benchmarks; results in bench/out
	@tools/run_bench.sh

lint: deps ## formatting, rules of this repository, clang-tidy on all files
	@tools/lint.sh

format: deps ## format all C++ files in place
	@tools/lint.sh --fix

fuzz: deps ## search with each fuzz target for FUZZ_SECONDS (60)
	@tools/run_fuzz.sh

docs: deps ## renew the tables that the programs print
	$(BAZEL) build --config=opt //daemon:holdfastd
	@tools/update_docs.py "$$($(BAZEL) info --config=opt bazel-bin 2>/dev/null)/daemon/holdfastd"

clean: ## remove build outputs (the shared caches stay)
	$(BAZEL) clean
	rm -rf bench/out dist compile_commands.json

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10
