# Everything a person or CI does with this checkout. `make help` lists it.

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
DOCUMENT_TESTS = $(shell grep -lr --include='test_*.py' 'document\|format_doc' tests/*/)
PACKAGES := ipld blkdev datastore repo mfs pinning fusefs csi ipfs_mfs

.DEFAULT_GOAL := help
.PHONY: help setup setup-test mount umount test test-quick test-peers test-fresh soak check format \
	bench bench-growth bench-boards peers proto lock

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) \
		| while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup:  ## Install what the program needs: system packages, .venv, the program
	@tools/setup.sh run

setup-test:
	@tools/setup.sh test

mount: setup  ## Mount the default store at ./mnt, creating it if there is none
	@mkdir -p mnt 2>/dev/null || true
	@.venv/bin/ipfs-mfs mount ./mnt

umount:  ## End that mount, losing nothing
	@.venv/bin/ipfs-mfs umount ./mnt

test: setup-test  ## Run the default test suite
	$(PYTEST) -n 2 -m "not needs_peers and not needs_node and not long"

test-quick: setup-test  ## Run the tests that take no time and need nothing: under a minute
	HYPOTHESIS_PROFILE=quick $(PYTEST) -q -n 2 \
		-m "not needs_peers and not needs_node and not needs_fuse and not slow and not long"

test-peers: setup-test peers  ## Run the tests that take minutes or need other programs
	IPFS_MFS_PURE=1 $(PYTEST) -q -n 2 -m "not long" tests/blkdev tests/crash tests/repo
	$(PYTEST) -n 2 -m "needs_peers or needs_node or long"

test-fresh:  ## Prove in a bare Debian root that nothing is missing from the set-up (root only)
	deploy/fresh/run.sh

soak: setup-test  ## Random operations with random kills: 30 minutes, or SOAK_MINUTES
	$(PYTHON) -m tests.soak.soak

check: setup-test  ## Check format, lint, types, layers, generated code and tidiness
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy $(PACKAGES) tests
	.venv/bin/lint-imports --no-logo
	tools/proto.sh --check
	$(PYTEST) -q tests/test_tidy.py tests/test_layers.py tests/test_requirements.py
	$(PYTEST) -q -k "document or format_doc" $(DOCUMENT_TESTS)

format: setup-test  ## Format the code and apply the linter's safe fixes
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: setup-test  ## Run the benchmarks and draw the charts
	$(PYTEST) benchmarks --benchmark-enable --timeout 1800
	$(PYTHON) -m benchmarks.report

bench-growth: setup-test  ## Run the growth benchmark up to ten million blocks (minutes, 4 GiB of disk)
	IPFS_MFS_BENCH_BLOCKS=10000000 $(PYTEST) benchmarks/test_growth.py --benchmark-enable \
		--timeout 3600
	$(PYTHON) -m benchmarks.report

bench-boards: setup-test  ## Run benchmarks as on a small board: one slow CPU, disk, memory (root only)
	$(PYTHON) -m benchmarks.board
	$(PYTHON) -m benchmarks.report

peers:  ## Build the programs we are compared with (once per machine)
	@tools/peers.sh

proto: setup-test  ## Generate the Python code of proto/ again
	@tools/proto.sh

lock: setup-test  ## Choose the newest versions that requirements/*.in allow, and pin them
	@tools/lock.sh
