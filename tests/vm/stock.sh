# SPDX-License-Identifier: GPL-2.0-or-later
# Inside the guest: the packet tables, a cluster of three that serves with either driver, and what of the netns ring can
# be had in minutes under emulation (both drivers in one cluster, drains), on a stock kernel with pure cgroup v2.
#   VM_PARTS   which of: bpf auto nft netns      VM_TESTS   pytest's -k for netns
set -u
ok=0 bad=0
M="$MESH_BUILD/meshctl"
check() { # NAME COMMAND...
	name=$1; shift
	if out=$("$@" 2>&1); then ok=$((ok + 1)); echo "ok $name"; else bad=$((bad + 1)); echo "not ok $name"; echo "$out" | tail -n 15; fi
}
until_true() { i=0; until "$@" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 240 ] || return 1; sleep 0.5; done; }
on() { n=$1; shift; "$M" -H unix:///run/mesh/vm/$n.sock "$@"; }
address() { "$M" lab ls --name vm --format json | jq -r "select(.name==\"$1\") | .address"; }
client() { "$M" lab client --name vm -- curl -sf -m 20 "$@"; }
serving() { [ "$("$M" service ls --format '{{.Replicas}}' | sort -u)" = 3/3 ]; }
says() { out=$(client "$1" 2>&1) && echo "$out" | grep -q "$2" || { echo "$out"; return 1; }; }
driver_said() { out=$(on n1 node inspect --pretty self); echo "$out" | grep '^Data Plane:' | grep -q "$1" || { echo "$out"; return 1; }; }
logged_once() { [ "$(grep -c 'data plane is up' /var/lib/mesh/vm/n1/meshd.log)" = 1 ]; }
nothing_left() { ! find /sys/fs/cgroup -name 'mesh*' | grep . && ! ip netns list | grep . && ! mount | grep /run/mesh; }

cluster() { # DRIVER WHAT-IT-SAYS
	check "$1: lab up" "$M" lab up --name vm --nodes 3 --data-plane "$1"
	export MESH_HOST=unix:///run/mesh/vm/n1.sock
	for n in n1 n2 n3; do check "$1: load on $n" on $n load -q -i "$MESH_BUILD/images/mesh-demo.tar"; done
	check "$1: the node says which driver it runs, and how" until_true driver_said "$2" # once its programs are loaded
	check "$1: and logs it once" logged_once
	check "$1: network" "$M" network create -d overlay shop
	check "$1: back" "$M" service create -d -q --name back --network shop --replicas 3 --limit-memory 64M --limit-cpu 0.5 mesh-demo:1
	check "$1: front" "$M" service create -d -q --name front --network shop --replicas 3 -p 8080:8000 -e BACK=back:8000 mesh-demo:1
	check "$1: all tasks run" until_true serving
	for n in n1 n2 n3; do
		a=$(address $n)
		check "$1: published port on $n" until_true client "http://$a:8080/"
		check "$1: client address on $n" says "http://$a:8080/" 'client=172.31.[0-9]*.10:'
		check "$1: service to service through $n" says "http://$a:8080/back" 'back=.host='
	done
	check "$1: from the node itself, 127.0.0.1" "$M" lab exec --name vm n2 -- curl -sf -m 20 http://127.0.0.1:8080/
	check "$1: memory limit in cgroup v2" sh -c "cat /sys/fs/cgroup/mesh-vm-n*/*/memory.max | grep -qx 67108864"
	check "$1: cpu limit in cgroup v2" sh -c "cat /sys/fs/cgroup/mesh-vm-n*/*/cpu.max | grep -q '^50000 100000'"
	check "$1: exec" "$M" exec "$("$M" ps -q | head -n 1)" true
	check "$1: a task dies" "$M" rm -f "$("$M" ps -q | head -n 1)"
	check "$1: it is replaced" until_true serving
	check "$1: lab down" "$M" lab down --name vm
	check "$1: nothing is left" nothing_left
	unset MESH_HOST
}

echo "kernel $(uname -r), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"
for part in ${VM_PARTS:-bpf auto nft netns}; do
	case $part in
	bpf)
		check "bpf programs: packet tables" "$MESH_BUILD/tests/bpf/test_programs"
		check "bpf programs: real path, two nodes" "$MESH_BUILD/tests/bpf/test_path"
		;;
	auto) cluster auto 'ebpf: .*clsact' ;;
	nft) cluster nft 'nft: as configured' ;;
	netns) MESH_TEST_SLOW=6 python3 tests/run.py --build "$MESH_BUILD" -k "${VM_TESTS:-test_drain or mixed and (driver or directions or ingress or connections)}" netns || bad=$((bad + 1)) ;;
	esac
done
echo "$ok passed, $bad failed, 0 skipped"
[ $bad = 0 ]
