# SPDX-License-Identifier: GPL-2.0-or-later
# Benchmarks of the data plane and what only they need.

$(B)/bpf/wrap.bpf.o: bench/bpf/wrap.bpf.c bench/bpf/wrap.h
	@echo "  BPF   $<"; mkdir -p $(@D)
	$(Q)$(CLANG) -O2 -g -target bpf -mcpu=v3 -I. -I/usr/include/$(MULTIARCH) -Wall -Werror -c -o $@ $<
$(B)/obj/bench/packet.o: | $(B)/gen/wrap.skel.h
$(B)/gen/wrap.skel.h: $(B)/bpf/wrap.bpf.o
	@mkdir -p $(@D)
	$(Q)bpftool gen skeleton $< name wrap_bpf > $@.tmp && mv $@.tmp $@

.PHONY: bench-packet
bench-packet: deps $(B)/bench/packet ## what a packet costs in each BPF program, beside katran's figures
	$(Q)$(B)/bench/packet -o $(B)/bench-packet.json
