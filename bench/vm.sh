# SPDX-License-Identifier: GPL-2.0-or-later
# Inside the guest with the instruction clock: what a connection and a request cost on each path.
#   VM_ROUNDS, VM_WORD (a part of the paths' names), VM_PROFILE=1 (perf's symbols instead of figures; from linux-perf)
# What runs often moves into the guest's memory: touched, the overlay has its own copy, and no file server is asked.
tools="$(command -v sh ip bridge sysctl modprobe iptables-legacy ipvsadm nft) $MESH_BUILD/bench/path"
for t in $tools; do readlink -f $t; ldd $t | grep -o '/[^ )]*'; done | sort -u | xargs -n 1 readlink -f | xargs touch -c
modprobe -a iptable_filter iptable_mangle iptable_nat
echo "kernel $(uname -r)"
set -- "$MESH_BUILD/bench/path" -g -r "${VM_ROUNDS:-1}" ${VM_WORD:+-p "$VM_WORD"}
[ -n "${VM_PROFILE:-}" ] || exec "$@" -o /mnt/keep/bench-vm.json
# Where the instructions go: a sample every 20 000 of them, once everything has been made.
mkfifo /run/control
perf record -q -a -e cpu-clock -c 20000 -D -1 --control fifo:/run/control -o /run/perf.data -- "$@" -c /run/control
perf report -i /run/perf.data --stdio --no-children --sort symbol --percent-limit 0.4 2>/dev/null | grep -v '^#' | grep .
