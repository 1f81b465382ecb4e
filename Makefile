# The front door.  Meson does the building; this says what there is to do, and does it in one word.
#   sudo make run      a node, a template, a VE, and a page served from inside it
#   sudo make check    every test
.DEFAULT_GOAL := build
SHELL := /bin/bash

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
# Where `make run` keeps its instance.  A short path: Unix sockets take 107 bytes.
RUN     ?= $(CURDIR)/run

PYTHON := /usr/bin/python3
CHECK  := $(PYTHON) tests/run --build $(BUILD)

##@ Use
build: $(BUILD)/build.ninja ## build everything
	@ninja -C $(BUILD)

run: ## (root) install what is missing, build, and serve a page from inside a new VE
	@tools/install-packages build run
	@$(MAKE) --no-print-directory build
	@tools/run start --build $(BUILD) --root $(RUN)

clean-run: ## (root) stop what `make run` started and remove all of it
	@tools/run clean --build $(BUILD) --root $(RUN)

install: build ## install under PREFIX (/usr/local); DESTDIR is honoured
	@meson configure $(BUILD) -Dprefix=$(PREFIX) && ninja -C $(BUILD) --quiet
	@DESTDIR=$(abspath $(DESTDIR)) meson install -C $(BUILD) --no-rebuild --quiet
	@echo "installed under $(DESTDIR)$(PREFIX); begin with: systemctl enable --now terem"

uninstall: ## remove what `make install` installed
	@tools/uninstall $(BUILD) '$(DESTDIR)'

deb: ## build Debian packages into ..
	@tools/install-packages build deb
	dpkg-buildpackage -us -uc -b

##@ Test
check: ## (root) install what the tests need, build, run every test
	@tools/install-packages build run check vm
	@$(CHECK) all

unit: build ## unit tests of the rooms
	@$(CHECK) unit

system: build ## (root) system tests: real VEs on this kernel
	@$(CHECK) system

attack: build ## (root) attacks from inside a VE
	@$(CHECK) attack

vm: build ## (root) Debian 12's and 13's kernels, cgroup v2 alone, in QEMU (TEREM_VM_CACHE)
	@tools/install-packages run vm
	@$(CHECK) vm

soak: build ## (root) a busy day in MINUTES=30, over 300 VEs: nothing grows
	@tools/install-packages run check
	@$(PYTHON) tests/soak/run --build $(BUILD) --minutes $(or $(MINUTES),30)

fuzz: build ## replay the fuzzers' corpora
	@$(CHECK) fuzz

fuzz-long: ## search with every fuzzer for SECONDS=60 each (clang, libFuzzer)
	@tools/install-packages build fuzz
	@tools/fuzz $(or $(SECONDS),60)

bench: build ## (root) measure Terem and its peers side by side
	@tools/install-packages run bench
	@$(PYTHON) bench/bench --build $(BUILD) $(BENCH)

bench-doc: build ## (root) the same, written into docs/benchmarks.md
	@tools/install-packages run bench
	@$(PYTHON) bench/bench --build $(BUILD) --doc docs/benchmarks.md

sanitize: ## build with the address and undefined-behaviour sanitizers and run the unit tests
	@$(CHECK) sanitize

format: ## lay out the C sources by .clang-format
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

format-check: ## is the layout as .clang-format says?
	@$(CHECK) format

lint: ## cppcheck, shellcheck, and the direction of includes between rooms
	@$(CHECK) lint

##@ Clean
clean: ## remove the build directories
	rm -rf $(BUILD) $(BUILD)-sanitize build-fuzz

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo; echo "PREFIX=$(PREFIX) BUILD=$(BUILD) RUN=$(RUN) DESTDIR=$(DESTDIR)"

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || \
	  { echo "what the build needs is missing; install it with: sudo tools/install-packages build"; exit 1; }
	@meson setup $(BUILD) --prefix=$(PREFIX)

.PHONY: build run clean-run install uninstall deb check unit system attack vm soak fuzz fuzz-long bench bench-doc \
        sanitize format format-check lint clean help
