# SPDX-License-Identifier: GPL-2.0-or-later
# Benchmarks of the data plane and what only they need.

$(B)/bpf/wrap.bpf.o $(B)/bpf/peer.bpf.o: $(B)/bpf/%.bpf.o: bench/bpf/%.bpf.c $(wildcard bench/bpf/*.h)
	@echo "  BPF   $<"; mkdir -p $(@D)
	$(Q)$(CLANG) -O2 -g -target bpf -mcpu=v3 -I. -I/usr/include/$(MULTIARCH) -Wall -Werror -c -o $@ $<
$(B)/gen/wrap.skel.h $(B)/gen/peer.skel.h: $(B)/gen/%.skel.h: $(B)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(Q)bpftool gen skeleton $< name $*_bpf > $@.tmp && mv $@.tmp $@
PACKET_OBJ := $(call obj,$(wildcard bench/packet/*.c))
$(PACKET_OBJ): | $(SKELS) $(B)/gen/peer.skel.h
$(PACKET_OBJ) $(B)/obj/bench/scale.o: | $(B)/gen/wrap.skel.h
$(B)/bench/packet: $(PACKET_OBJ) $(LIBS)
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(PACKET_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_ALL)

.PHONY: bench-packet
bench-packet: deps ## what a packet costs in each BPF program, beside a balancer of Katran's structure in the same run
	$(THEN) run-bench-packet
run-bench-packet: $(B)/bench/packet
	$(Q)$(B)/bench/packet -o $(B)/bench-packet.json

PATH_OBJ := $(call obj,$(wildcard bench/path/*.c))
$(PATH_OBJ): | $(SKELS)
$(B)/bench/path: $(PATH_OBJ) $(LIBS)
	@echo "  LINK  $@"; mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(PATH_OBJ) -Wl,--start-group $(LIBS) -Wl,--end-group $(LIBS_ALL)
.PHONY: bench-path bench-peers
bench-path: deps ## CPU an operation: mesh, VIP, overlay beside routing, nft, iptables, HAProxy, VXLAN, Swarm's chain
	$(THEN) run-bench-path
run-bench-path: bench-peers $(B)/bench/path
	$(Q)$(B)/bench/path -o $(B)/bench-path.json
# Only what benchmarks compare with; nothing of meshd needs it.
bench-peers:
	$(Q)$(call install_missing,haproxy dnsmasq-base unbound nsd knot dnsperf iptables ipvsadm)

# VM_ROUNDS=1, the default, is the cheap one: the clock has no noise, rounds agree to a percent. VM_WORD="..." picks.
.PHONY: bench-vm
bench-vm: deps vm-deps bench-peers ## instructions an operation on Debian's stock kernel, beside real IPVS and Swarm's chain
	$(THEN) run-bench-vm
run-bench-vm: $(B)/bench/path
	$(Q)tests/vm/boot.sh -i $(B) bench/vm.sh 3600; rc=$$?; [ $$rc = 77 ] && exit 0; exit $$rc

.PHONY: bench-maglev
bench-maglev: deps ## balance and disruption of the tables, beside the paper's and rendezvous hashing
	$(THEN) run-bench-maglev
run-bench-maglev: $(B)/bench/maglev
	$(Q)$(B)/bench/maglev -o $(B)/bench-maglev.json

.PHONY: bench-dns
bench-dns: deps ## the resolver of tasks beside dnsmasq, unbound, NSD and Knot
	$(THEN) run-bench-dns
run-bench-dns: bench-peers $(B)/bench/dns
	$(Q)$(B)/bench/dns -o $(B)/bench-dns.json

.PHONY: bench-scale
bench-scale: deps ## programming services from nothing and one change, beside nft and iptables
	$(THEN) run-bench-scale
run-bench-scale: bench-peers $(B)/bench/scale
	$(Q)$(B)/bench/scale -o $(B)/bench-scale.json

.PHONY: bench-convergence
bench-convergence: deps ## a task dies, starts, drains: until the last of 3 nodes, of 200 simulated ones, has it in force
	$(THEN) run-bench-convergence
run-bench-convergence: all images $(B)/bench/agents $(B)/bench/inforce
	$(Q)MESH_BUILD=$(B) /usr/bin/python3 bench/convergence.py
