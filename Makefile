# make demo   from nothing to a policy that flies: in Python, on an emulated microcontroller and under ROS 2
# make test   everything the tests need, then all tests
# make check  format, lint, types and the fast tests: what to run before a commit
# make setup  only the installation; done again only when the pinned packages change
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
EXTRAS := sim,train,ros,hardware,dev
# Worker processes of the test run; 0 runs everything in one process.
TEST_JOBS ?= 2
# Small networks run slower on two threads than on one (the threads only wait for each other).
export OMP_NUM_THREADS := 1

STAMP := $(VENV)/.installed-$(shell cat setup.py setup.cfg constraints.txt | sha256sum | cut -c1-16)
APT_PACKAGES := gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
# Only the tests build for RISC-V, draw scenes and open the viewer in a browser.
APT_TEST_PACKAGES := libegl1 libgl1-mesa-dri chromium gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc

# The whole output goes to a log; only when something fails its end is shown.
pip-install = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(1) >$(VENV)/setup.log 2>&1 \
	|| { tail -n 30 $(VENV)/setup.log; echo "== pip failed; the whole output is in $(VENV)/setup.log"; exit 1; }

.PHONY: help demo test check fast-test format lint types setup tools clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: setup
	@$(BIN)/robot-rl demo

test: setup
	@.ci/tools $(APT_TEST_PACKAGES)
	@echo "== tests (about ten minutes on two cores; a summary of what was skipped and why comes at the end)"
	@$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadfile

check: format lint types fast-test

format: $(STAMP)
	@echo "== format"
	@$(BIN)/ruff format --check .

lint: $(STAMP)
	@echo "== lint"
	@$(BIN)/ruff check .

types: $(STAMP)
	@echo "== types"
	@$(BIN)/pyright

fast-test: $(STAMP)
	@echo "== fast tests"
	@$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadfile -m "not slow"

setup: tools $(STAMP)

$(STAMP):
	@echo "== [1/3] Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit(f"Python 3.10 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== [2/3] $(TORCH) (first, so that nothing below asks for another build of it)"
	@$(call pip-install,$(TORCH))
	@echo "== [3/3] robot_rl[$(EXTRAS)] with pinned packages (one to three minutes)"
	@$(call pip-install,-e '.[$(EXTRAS)]')
	@rm -f $(VENV)/.installed-* && touch $@
	@echo "== Python environment ready"

tools:
	@.ci/tools $(APT_PACKAGES)

clean:
	rm -rf build install log .pytest_cache .ruff_cache .hypothesis robot_rl.egg-info
