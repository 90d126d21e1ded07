# SPDX-License-Identifier: GPL-2.0-or-later
# Inside the guest: the packet tables, and a cluster that serves, on a stock kernel with pure cgroup v2.
set -u
ok=0 bad=0
check() { # NAME COMMAND...
	name=$1; shift
	if out=$("$@" 2>&1); then ok=$((ok + 1)); echo "ok $name"; else bad=$((bad + 1)); echo "not ok $name"; echo "$out" | tail -n 15; fi
}
until_true() { i=0; until "$@" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 240 ] || return 1; sleep 0.5; done; }
M="$MESH_BUILD/meshctl"
echo "kernel $(uname -r), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"
check "bpf programs: packet tables" "$MESH_BUILD/tests/bpf/test_programs"
check "bpf programs: real path, two nodes" "$MESH_BUILD/tests/bpf/test_path"
check "lab up" "$M" lab up --name vm --nodes 2
export MESH_HOST=unix:///run/mesh/vm/n1.sock
address() { "$M" lab ls --name vm --format json | jq -r "select(.name==\"$1\") | .address"; }
for n in 1 2; do check "load on n$n" "$M" -H unix:///run/mesh/vm/n$n.sock load -q -i "$MESH_BUILD/images/mesh-demo.tar"; done
check "network" "$M" network create -d overlay shop
check "back" "$M" service create -d -q --name back --network shop --replicas 2 --limit-memory 64M --limit-cpu 0.5 mesh-demo:1
check "front" "$M" service create -d -q --name front --network shop --replicas 2 -p 8080:8000 -e BACK=back:8000 mesh-demo:1
serving() { [ "$("$M" service ls --format '{{.Replicas}}' | sort -u)" = 2/2 ]; }
check "all tasks run" until_true serving
client() { "$M" lab client --name vm -- curl -sf -m 20 "$@"; }
for n in n1 n2; do
	a=$(address $n)
	check "published port on $n" until_true client "http://$a:8080/"
	check "client address on $n" sh -c "$M lab client --name vm -- curl -sf -m 20 http://$a:8080/ | grep -q 'client=172.31.[0-9]*.10:'"
	check "service to service through $n" sh -c "$M lab client --name vm -- curl -sf -m 20 http://$a:8080/back | grep -q 'back=.host='"
done
check "from the node itself, 127.0.0.1" "$M" lab exec --name vm n2 -- curl -sf -m 20 http://127.0.0.1:8080/
check "memory limit in cgroup v2" sh -c "cat /sys/fs/cgroup/mesh-vm-n*/*/memory.max | grep -qx 67108864"
check "cpu limit in cgroup v2" sh -c "cat /sys/fs/cgroup/mesh-vm-n*/*/cpu.max | grep -q '^50000 100000'"
check "exec" sh -c "$M exec \$($M ps -q | head -n 1) true"
check "a task dies" sh -c "$M rm -f \$($M ps -q | head -n 1)"
check "it is replaced" until_true serving
check "lab down" "$M" lab down --name vm
check "nothing is left" sh -c "! find /sys/fs/cgroup -name 'mesh*' | grep . && ! ip netns list | grep . && ! mount | grep /run/mesh"
echo "$ok passed, $bad failed, 0 skipped"
[ $bad = 0 ]
