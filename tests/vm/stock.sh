# SPDX-License-Identifier: GPL-2.0-or-later
# Inside the guest, a stock kernel with pure cgroup v2: every BPF program is loaded and run (packet tables, hand-over,
# random packets against the model, two whole nodes), a cluster of three serves with either driver, and the netns ring.
#   VM_PARTS   which of: tables path auto nft netns
#   VM_TESTS   of netns: what pytest's -k takes, or a file (test_mesh.py); "all": the whole ring but for what check.sh has on record
#              as passed, and of path the slow modes, too
set -u
ok=0 bad=0 skipped=0
ALL=$([ "${VM_TESTS:-}" = all ] && echo yes)
M="$MESH_BUILD/meshctl"
now() { cut -d. -f1 /proc/uptime; }
skip() { skipped=$((skipped + 1)); echo "skipped $1: $2"; }
check() { # NAME COMMAND...
	name=$1 since=$(now); shift
	if out=$("$@" 2>&1); then ok=$((ok + 1)) said=ok; else bad=$((bad + 1)) said="not ok"; fi
	echo "$said $name  $(($(now) - since)) s"
	[ "$said" = ok ] || echo "$out" | tail -n 15
}
table() { # NAME COMMAND...: a program of ours with tests of its own, each of them counted
	name=$1 since=$(now); shift
	out=$(CMOCKA_MESSAGE_OUTPUT=TAP "$@" 2>&1); rc=$?
	good=$(echo "$out" | grep -v SKIP | grep -c '^ok [0-9]'); none=$(echo "$out" | grep -c '^ok [0-9].*SKIP')
	wrong=$(echo "$out" | grep -c '^not ok [0-9]')
	[ $wrong -gt 0 ] || [ $rc = 0 ] || wrong=1
	ok=$((ok + good)) bad=$((bad + wrong)) skipped=$((skipped + none))
	echo "$([ $wrong = 0 ] && echo ok || echo not ok) $name: $good passed, $wrong failed, $none skipped  $(($(now) - since)) s"
	[ $wrong = 0 ] || echo "$out" | tail -n 30
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

# The ring's own runner says which test runs and counts; what it counted is added to ours.
ring() { # WORD of tests, or FILE
	since=$(now)
	[ ! "$ALL" ] || export MESH_TEST_DONE="$MESH_BUILD/vm/all/netns.record" MESH_TEST_RECORD=/mnt/keep/vm/all/netns.new
	MESH_TEST_SLOW=6 PYTEST_ADDOPTS=-vv python3 tests/run.py --build "$MESH_BUILD" -k "$1" netns 2>&1 | tee /run/netns.log
	set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' /run/netns.log) 0 1 0
	ok=$((ok + $1)) bad=$((bad + $2)) skipped=$((skipped + $3))
	echo "netns ring: $1 passed, $2 failed, $3 skipped  $(($(now) - since)) s"
}
# What asks most of the kernel: published ports, service addresses, ping, names, drains, more than a packet, mixed drivers.
NETNS='mixed and (scale_in or in_flight or keep_their_task or ingress or directions or isolated or vip_udp or fragments
 or crosses or unreachable) or test_exec_and_client or test_doctor_names'
NETNS=$(echo $NETNS)

echo "kernel $(uname -r), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"
for part in ${VM_PARTS:-tables path auto nft netns}; do
	case $part in
	tables)
		table "packet tables" "$MESH_BUILD/tests/bpf/test_programs"
		table "maps of another layout are taken over" "$MESH_BUILD/tests/bpf/test_handover"
		table "random packets against the model" env MESH_SEEDS=${VM_SEEDS:-3} "$MESH_BUILD/tests/bpf/test_differential"
		;;
	path) # one mode a word, see tests/bpf/test_path.c
		skip "real path, tcx" "this kernel has none: it would be clsact once more"
		for mode in 1 2 3 6 ${ALL:+4 5}; do table "real path, mode $mode" "$MESH_BUILD/tests/bpf/test_path" $mode; done
		[ "$ALL" ] || skip "real path, modes 4 and 5" "without offloads, minutes each here (VM_TESTS=all)"
		;;
	auto) cluster auto 'ebpf: .*clsact' ;;
	nft) cluster nft 'nft: as configured' ;;
	netns)
		if [ "$ALL" ]; then ring ''; else ring "${VM_TESTS:-$NETNS}"; fi
		[ "${VM_TESTS:-}" ] || skip "the rest of the netns ring" "VM_TESTS=all runs it, or a file or word of its tests"
		;;
	esac
done
echo "$ok passed, $bad failed, $skipped skipped"
[ $bad = 0 ]
