# SPDX-License-Identifier: GPL-2.0-or-later
# Inside the guest with the instruction clock: what a connection and a request cost on each path.
# What runs often moves into the guest's memory: touched, the overlay has its own copy, and no file server is asked.
tools="$(command -v sh ip bridge sysctl modprobe iptables-legacy ipvsadm nft) $MESH_BUILD/bench/path"
for t in $tools; do readlink -f $t; ldd $t | grep -o '/[^ )]*'; done | sort -u | xargs -n 1 readlink -f | xargs touch -c
modprobe -a iptable_filter iptable_mangle iptable_nat
echo "kernel $(uname -r)"
"$MESH_BUILD/bench/path" -g -r "${VM_ROUNDS:-1}" ${VM_WORD:+-p "$VM_WORD"} -o /mnt/keep/bench-vm.json
