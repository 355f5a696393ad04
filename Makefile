# Needs a Python >= 3.11 with venv, or uv; everything else is set up in .venv by the first target.
# Set-up runs once, and again whenever pyproject.toml changes.

VENV := .venv
PYTHON := $(VENV)/bin/python
EXTRA := dev# what to install with the package; dev holds all that is needed for any target
PIN :=# what to install beside it
TESTS :=# all
# Ledgers sync their files often, so tests write to memory where there is enough of it. They start
# hundreds of processes, so what these import is compiled once.
SCRATCH := $(shell test "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 4000000 \
	2>/dev/null && echo TMPDIR=/dev/shm)
LAB_FLAGS := $(if $(filter 0,$(shell id -u)),--allow-root)# of JupyterLab, such as --no-browser
FRAMES := $(addprefix tests/test_,$(addsuffix .py,accessor answers architecture blocks every_frame \
	exports finding frames functions handles indexes outputs planning rendering reuse rows templates \
	votes))

.DEFAULT_GOAL := help
.PHONY: demo lab test oldest soak lint types help

demo: $(VENV)/.has-emulator  ## label 3,080 real queries, crash, resume; no API key needed
	@$(PYTHON) -m claude_batch_pandas demo

lab: $(VENV)/.has-dev  ## open the tour of the notebook layer in JupyterLab; no API key needed (Ctrl-C ends it)
	@$(SERVE_AND_OPEN)

test: $(VENV)/.has-$(EXTRA)  ## run the tests
	@PYTHONDONTWRITEBYTECODE= $(SCRATCH) $(PYTHON) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(TESTS)

oldest:  ## run the tests of what touches pandas on the oldest that is supported
	@$(MAKE) --no-print-directory test VENV=.venv-oldest EXTRA=test PIN="'pandas<2.3'" TESTS="$(FRAMES)"

soak: $(VENV)/.has-dev  ## go on with the long runs: crashes, faults, flipped bytes (Ctrl-C stops them)
	@$(PYTHON) -m tests.soak

lint: $(VENV)/.has-dev  ## check style and format
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

types: $(VENV)/.has-dev  ## check the types
	$(PYTHON) -m mypy

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*## */  make \1\t/p' Makefile

# The emulator says where it is in its second line. What runs in the background has no Ctrl-C of its
# own, so this shell hears it, and ends both.
define SERVE_AND_OPEN
	home=$$(mktemp -d); \
	trap 'trap "" INT TERM HUP; kill $$lab $$emulator 2>/dev/null; wait; rm -rf "$$home"' EXIT; \
	trap 'exit 130' INT; trap 'exit 143' TERM HUP; \
	mkfifo "$$home/said"; \
	$(VENV)/bin/claude-batch emulate >"$$home/said" & emulator=$$!; \
	{ read -r _ && read -r where; } <"$$home/said" || exit 2; \
	echo "$$where"; \
	env "$${where#export }" ANTHROPIC_API_KEY=none CLAUDE_BATCH_HOME="$$home/ledger" \
		$(PYTHON) -m jupyterlab --ServerApp.root_dir=notebooks \
		--LabApp.default_url=/lab/tree/tour.ipynb $(LAB_FLAGS) & lab=$$!; \
	wait $$lab
endef

# The larger set holds the smaller: with dev installed, the demo installs nothing.
$(VENV)/.has-emulator: pyproject.toml $(PYTHON)
	@if [ $(VENV)/.has-dev -nt pyproject.toml ]; then touch $@; else $(call install,emulator); fi

$(VENV)/.has-dev $(VENV)/.has-test: $(VENV)/.has-%: pyproject.toml $(PYTHON)
	@$(call install,$*)

# uv where there is one; else pip, which an environment made by uv does not have yet.
define install
	set -e; \
	echo "Installing claude-batch-pandas[$(1)] into $(VENV) ..."; \
	if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python $(PYTHON) --editable '.[$(1)]' $(PIN); \
	else \
		$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip >/dev/null; \
		$(PYTHON) -m pip install --quiet --editable '.[$(1)]' $(PIN); \
	fi; \
	touch $(VENV)/.has-$(1)
endef

# Names such as python3.12 can exist and not work (pyenv), so each is asked for its version.
$(PYTHON):
	@set -e; \
	if command -v uv >/dev/null 2>&1; then \
		exec uv venv --quiet --python '>=3.11' $(VENV); \
	fi; \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
				>/dev/null 2>&1; then \
			$$candidate -m venv $(VENV) && exit 0; \
			echo "error: $$candidate could not make $(VENV); on Debian and Ubuntu it needs the package python3-venv." >&2; \
			exit 2; \
		fi; \
	done; \
	found=$$(python3 --version 2>/dev/null || echo "no python3"); \
	echo "error: Python >= 3.11 is needed, and there is $$found. Install one, or uv (https://docs.astral.sh/uv)." >&2; \
	exit 2
