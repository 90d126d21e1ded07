# SPDX-License-Identifier: GPL-2.0-or-later
# meshd: `make help` lists the targets.

B       ?= build
SAN     ?=
V       ?= 0
Q       := $(if $(filter 1,$(V)),,@)
PREFIX  ?= /usr/local
DESTDIR ?=
CC      := gcc
CLANG   := clang
VERSION := $(shell cat VERSION)

comma := ,
# What may be the first command on a new machine installs packages, then starts a make that sees them: pkg-config is
# asked while make reads this file, and a parallel make would compile while packages are still being unpacked.
THEN := +$(Q)$(MAKE) --no-print-directory
ifneq ($(SAN),)
B := build/san-$(subst $(comma),-,$(SAN))
endif
PKGS_CONTROL := libuv wolfssl libmicrohttpd jansson
PKGS_DP      := libnl-3.0 libnl-route-3.0 libmnl libnftnl libnftables libbpf
PKGS_CLI     := jansson yaml-0.1 smartcols

WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wshadow -Wpointer-arith \
        -Wwrite-strings -Wvla -Wundef -Wno-missing-field-initializers -Wno-missing-braces -Wno-format-truncation
CFLAGS ?= -O2 -g
ALL_CFLAGS := -std=gnu11 -D_GNU_SOURCE -fno-strict-aliasing -fstack-protector-strong $(WARN) $(CFLAGS) \
        -DMESH_VERSION='"$(VERSION)"' -I. -I$(B)/gen -MMD -MP
LDFLAGS ?= -Wl,--as-needed -pthread
ifneq ($(SAN),)
ALL_CFLAGS += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS    += -fsanitize=$(SAN)
endif

# ---- what is built -------------------------------------------------------------------------------
BASE_SRC    := $(wildcard base/*.c)
DP_SRC      := $(wildcard dataplane/*.c dataplane/*/*.c)
CONTROL_SRC := $(filter-out control/meshd/main.c,$(wildcard control/*/*.c))
SHIM_SRC    := $(wildcard control/agent/shim/*.c)
CLI_SRC     := $(wildcard cli/*.c cli/*/*.c)
BPF_SRC     := $(wildcard bpf/*.bpf.c)
TEST_SRC    := $(wildcard tests/unit/test_*.c tests/golden/test_*.c tests/sim/test_*.c tests/bpf/test_*.c tests/fuzz/test_*.c)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC   := $(wildcard bench/*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
SKELS := $(patsubst bpf/%.bpf.c,$(B)/gen/%.skel.h,$(BPF_SRC))
TESTS := $(patsubst %.c,$(B)/%,$(TEST_SRC))
BENCHES := $(patsubst bench/%.c,$(B)/bench/%,$(BENCH_SRC))
LIBS  := $(B)/libcontrol.a $(B)/libdataplane.a $(B)/libbase.a

cflags_of = $(shell pkg-config --cflags $(1) 2>/dev/null)
libs_of   = $(shell pkg-config --libs $(1) 2>/dev/null)
# libnl's headers stand in a folder of their own.
ALL_CFLAGS += $(call cflags_of,libnl-3.0)
LIBS_ALL  = $(call libs_of,$(PKGS_CONTROL) $(PKGS_DP)) -lm

# Packages that only some targets need; daemons that come with one do not start.
install_missing = for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	  [ -z "$$missing" ] || { [ -e /usr/sbin/policy-rc.d ] || { printf '\#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; \
	  chmod 755 /usr/sbin/policy-rc.d; mine=1; }; export DEBIAN_FRONTEND=noninteractive; \
	  apt-get install -y --no-install-recommends $$missing >/dev/null 2>&1 || { apt-get update -q >/dev/null 2>&1; \
	  apt-get install -y --no-install-recommends $$missing >/dev/null; }; rc=$$?; \
	  [ -z "$$mine" ] || rm -f /usr/sbin/policy-rc.d; (exit $$rc); }

.PHONY: all check check-san check-vm vm-deps clean demo demo-down deps fuzz golden-update help images includes install lint model sim soak tests \
        bench-scheduler bench-tasks bench-update $(addprefix run-,check check-san check-vm demo soak fuzz bench-scheduler bench-tasks bench-update)
.DEFAULT_GOAL := all
.SECONDARY: $(patsubst bpf/%.bpf.c,$(B)/bpf/%.bpf.o,$(BPF_SRC))
all: $(B)/meshd $(B)/meshctl $(B)/mesh-shim ## build meshd, meshctl and the task shim into build/

$(B)/meshd: $(call obj,control/meshd/main.c) $(LIBS)
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_ALL)

$(B)/meshctl: $(call obj,$(CLI_SRC)) $(B)/libbase.a
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(call obj,$(CLI_SRC)) $(B)/libbase.a $(call libs_of,$(PKGS_CLI)) -lm

# Static and without libraries: twenty of them must weigh nothing.
$(B)/mesh-shim: $(SHIM_SRC)
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -g $(WARN) -I. -static -Wl,--gc-sections -ffunction-sections -o $@ $(SHIM_SRC)

$(B)/libbase.a: $(call obj,$(BASE_SRC))
$(B)/libdataplane.a: $(call obj,$(DP_SRC))
$(B)/libcontrol.a: $(call obj,$(CONTROL_SRC))
$(B)/%.a:
	@echo "  AR    $@"; rm -f $@
	$(Q)ar rcs $@ $^

$(B)/obj/%.o: %.c
	@echo "  CC    $<"; mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<
# Generated skeletons must exist before anything that may include them.
$(call obj,$(DP_SRC)) $(patsubst %.c,$(B)/obj/%.o,$(TEST_SRC) $(BENCH_SRC)): | $(SKELS)

# ---- BPF -----------------------------------------------------------------------------------------
ARCH := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/')
MULTIARCH := $(shell $(CC) -print-multiarch)
$(B)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h)
	@echo "  BPF   $<"; mkdir -p $(@D)
	$(Q)$(CLANG) -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -I. -I/usr/include/$(MULTIARCH) -Wall -Werror -c -o $@ $<
$(B)/gen/%.skel.h: $(B)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(Q)bpftool gen skeleton $< name $(subst -,_,$*)_bpf > $@.tmp && mv $@.tmp $@

# A daemon whose maps have another layout: what an upgrade meets. Only the data plane knows the layout.
N := $(B)/next
$(N)/bpf/abi.h: bpf/abi.h tests/support/next_abi.sed
	@mkdir -p $(@D)
	$(Q)sed -f tests/support/next_abi.sed $< > $@
$(N)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) $(N)/bpf/abi.h
	@echo "  BPF   $@"; mkdir -p $(@D)
	$(Q)$(CLANG) -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -I$(N) -I. -I/usr/include/$(MULTIARCH) -Wall -Werror -c -o $@ $<
$(N)/gen/%.skel.h: $(N)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(Q)bpftool gen skeleton $< name $(subst -,_,$*)_bpf > $@.tmp && mv $@.tmp $@
.SECONDARY: $(patsubst bpf/%.bpf.c,$(N)/bpf/%.bpf.o,$(BPF_SRC))
NEXT_OBJ := $(patsubst %.c,$(N)/obj/%.o,$(DP_SRC))
$(NEXT_OBJ): | $(patsubst bpf/%.bpf.c,$(N)/gen/%.skel.h,$(BPF_SRC))
$(N)/obj/%.o: %.c
	@echo "  CC    $@"; mkdir -p $(@D)
	$(Q)$(CC) $(subst -I. -I$(B)/gen,-I$(N) -I. -I$(N)/gen,$(ALL_CFLAGS)) -c -o $@ $<
$(N)/libdataplane.a: $(NEXT_OBJ)
$(N)/meshd: $(call obj,control/meshd/main.c) $(N)/libdataplane.a $(LIBS) | $(B)/mesh-shim
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(B)/libcontrol.a $(N)/libdataplane.a $(B)/libbase.a -Wl,--end-group $(LIBS_ALL)
	$(Q)ln -sf ../mesh-shim $(@D)/mesh-shim

# The image that the demo, the tests and the benchmarks run.
images: $(B)/images/mesh-demo.tar ## build the demo image
$(B)/images/mesh-demo.tar: tests/images/build.sh tests/images/echo.c
	@echo "  IMAGE $@"; mkdir -p $(@D)
	$(Q)tests/images/build.sh $(abspath $@)

# ---- tests ---------------------------------------------------------------------------------------
$(TESTS): $(B)/%: $(B)/obj/%.o $(LIBS)
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_ALL) -lcmocka -lldns -lyaml
$(BENCHES): $(B)/bench/%: $(B)/obj/bench/%.o $(LIBS)
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_ALL)
tests: $(TESTS)

check: deps ## install what is missing, build, run every test ring
	$(THEN) run-check
run-check: all tests images $(B)/bench/loadgen $(N)/meshd
	$(THEN) includes
	$(Q)/usr/bin/python3 tests/run.py --build $(B) $(CHECK)
# Every ring but api; of netns what goes through most of the daemon. A report of any process that a test began is a failure.
SAN_TESTS ?= test_metrics or test_trace or test_doctor or test_scale_in or test_exit_codes or test_images
check-san: deps ## the rings under AddressSanitizer and UBSan (SAN_TESTS: pytest's -k for netns)
	$(THEN) SAN=address,undefined run-check-san
run-check-san: all tests images $(B)/bench/loadgen
	$(Q)rm -f $(B)/report.[0-9]*
	$(Q)export ASAN_OPTIONS=log_path=$(abspath $(B))/report UBSAN_OPTIONS=log_path=$(abspath $(B))/report:print_stacktrace=1; \
	  MESH_SIM_SEEDS=40 MESH_SEEDS=10 /usr/bin/python3 tests/run.py --build $(B) unit golden sim bpf fuzz; rc=$$?; \
	  MESH_TEST_SLOW=3 /usr/bin/python3 tests/run.py --build $(B) -k '$(SAN_TESTS)' netns || rc=1; \
	  ! cat $(B)/report.[0-9]* 2>/dev/null && exit $$rc
SEEDS ?= 2000
sim: $(patsubst %.c,$(B)/%,$(wildcard tests/sim/test_*.c)) ## simulated clusters with faults, SEEDS schedules (default 2000)
	$(Q)for t in $^; do MESH_SIM_SEEDS=$(SEEDS) $$t || exit 1; done
SECONDS ?= 600
soak: deps ## SECONDS (default 600) of random changes under load; then every node is as it was
	$(THEN) run-soak
run-soak: all images $(B)/bench/loadgen
	$(Q)SOAK_SECONDS=$(SECONDS) /usr/bin/python3 tests/run.py --build $(B) -k soak netns
model: $(B)/tests/bpf/test_differential ## the packet path against a naive model of it, SEEDS random sequences (default 2000)
	$(Q)MESH_SEEDS=$(SEEDS) $<
# Only what the guest needs; where it cannot be had, tests/vm/boot.sh says so and skips.
vm-deps:
	$(Q)$(call install_missing,qemu-system-x86 kmod cpio busybox-static) || echo "qemu, kmod or cpio cannot be installed here"
check-vm: deps vm-deps ## on Debian's stock kernel in qemu: 15 minutes; VM_TESTS=all or a pytest word for more (skips where qemu is missing)
	$(THEN) run-check-vm
run-check-vm: all tests images $(B)/bench/loadgen $(N)/meshd
	$(Q)tests/vm/check.sh $(B) $(VM_SECONDS)
includes: ## check that includes only point where docs/architecture.md says they may
	$(Q)/usr/bin/python3 tests/includes.py
golden-update: all tests ## rewrite the golden files from what the code says now
	$(Q)GOLDEN_UPDATE=1 /usr/bin/python3 tests/run.py --build $(B) golden
lint: ## clang-format (dry run), cppcheck, include arrows
	$(Q)/usr/bin/python3 tests/includes.py
	$(Q)clang-format --dry-run -Werror $(shell git ls-files '*.c' '*.h')
	@# internalAstError: cppcheck 2.10 loses its way in loop macros and compound literals, not in the code
	$(Q)cppcheck --quiet --enable=warning,performance,portability --inline-suppr --error-exitcode=1 -I. \
	  --include=tests/cppcheck.h --suppress=missingIncludeSystem --suppress=internalAstError --suppress=legacyUninitvar --suppress='*:*/bpf/*' base dataplane control cli

# Coverage-guided, for as long as FUZZ_SECONDS allows each target; the corpus replays in `make check`.
FUZZ_SECONDS ?= 60
FUZZ_BIN := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(FUZZ_SRC))
FUZZ_FLAGS := -std=gnu11 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer -ffunction-sections -fdata-sections -w \
        -DMESH_VERSION='"$(VERSION)"' $(call cflags_of,libnl-3.0) -I. -I$(B)/gen
FUZZ_LIB := $(patsubst %.c,build/fuzz/obj/%.o,$(BASE_SRC) $(DP_SRC) $(CONTROL_SRC))
build/fuzz/obj/%.o: %.c | $(SKELS)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<
build/fuzz/lib.a: $(FUZZ_LIB)
	$(Q)rm -f $@; ar rcs $@ $^
build/fuzz/%: tests/fuzz/%.c build/fuzz/lib.a
	@echo "  FUZZ  $@"; mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -Wl,--gc-sections -o $@ $< build/fuzz/lib.a $(LIBS_ALL) -lyaml -pthread
fuzz: deps ## fuzz every decoder for FUZZ_SECONDS each (default 60)
	$(THEN) run-fuzz
run-fuzz: $(FUZZ_BIN)
	$(Q)for f in $(FUZZ_BIN); do n=$${f##*/fuzz_}; mkdir -p build/fuzz/corpus-$$n; echo "== $$n"; \
	  $$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 build/fuzz/corpus-$$n $$(ls -d tests/fuzz/corpus/$$n 2>/dev/null) 2>build/fuzz/$$n.log || { tail -n 40 build/fuzz/$$n.log; exit 1; }; tail -n 1 build/fuzz/$$n.log; done

# ---- benchmarks: each prints a table with its peers and writes JSON into build/ -----------------
bench-scheduler: deps ## placements a second at 1 000 and 5 000 simulated nodes
	$(THEN) run-bench-scheduler
run-bench-scheduler: $(B)/bench/scheduler
	$(Q)$(B)/bench/scheduler -o $(B)/bench-scheduler.json
bench-tasks: deps ## life of tasks: create, kill, cut; memory; creations a second
	$(THEN) run-bench-tasks
run-bench-tasks: all images
	$(Q)MESH_BUILD=$(B) /usr/bin/python3 bench/tasks.py
bench-update: deps ## an open loop of requests while services change: what fails, how late (WORD="..." picks)
	$(THEN) run-bench-update
run-bench-update: all images $(B)/bench/loadgen
	$(Q)MESH_BUILD=$(B) /usr/bin/python3 bench/update.py $(WORD)

include bench/bench.mk

# ---- the rest ------------------------------------------------------------------------------------
deps: ## install the Debian packages that are missing
	$(Q)tests/deps.sh
demo: deps ## a three-node cluster on this machine, serving
	$(THEN) run-demo
run-demo: all images
	$(Q)tests/demo.sh $(B)
demo-down: ## remove the demo's cluster
	$(Q)$(B)/meshctl lab down --name demo
install: all ## install into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/mesh
	install -m 755 $(B)/meshd $(B)/meshctl $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/mesh-shim $(DESTDIR)$(PREFIX)/libexec/mesh
clean: ## remove build/
	rm -rf build
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

-include $(shell find $(B)/obj $(B)/next/obj -name '*.d' 2>/dev/null)
