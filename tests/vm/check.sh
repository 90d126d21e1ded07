#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What `make check-vm` does on this machine: stock.sh in one guest or, with VM_TESTS=all, everything, a guest a part.
#   tests/vm/check.sh BUILD_DIR [SECONDS]    exit status: 0 all passed, or skipped for want of qemu; 1 otherwise
#   VM_TESTS   "all": every mode of the bpf ring and the whole netns ring
#   VM_ALL     which parts of "all": bpf auto nft netns
# "all" that was interrupted goes on where it was: a part, and of the netns ring a test, that passed is not run again until the
# programs or the tests change. BUILD_DIR/vm/all has what the parts said (PART.log) and a line a test (netns.record).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 limit=${2:-}
all="$build/vm/all"
if [ "${VM_TESTS:-}" != all ]; then
	rc=0
	"$here/boot.sh" "$build" "$here/stock.sh" "${limit:-2400}" || rc=$?
	[ $rc = 77 ] && exit 0
	exit $rc
fi

# Of what is run: the programs, and the tests with what they stand on.
tested() {
	find "$build/meshd" "$build/meshctl" "$build/mesh-shim" "$build/next/meshd" "$build/bench/loadgen" "$build/images/mesh-demo.tar" \
		"$build/tests/bpf" "$here/.." "$here/../../bench" -type f ! -name '*.o' ! -name '*.d' ! -name '*.pyc' -exec sha256sum {} + |
		sed 's/ .*//' | sort | sha256sum
}
run_part() { # NAME
	VM_PARTS=$1
	[ "$1" != bpf ] || VM_PARTS="tables path"
	export VM_PARTS
	rc=0
	"$here/boot.sh" "$build" "$here/stock.sh" "${limit:-7200}" || rc=$?
	echo "status $rc"
}
note() { # what a guest left, also one that was interrupted with us
	[ -e "$all/netns.new" ] || return 0
	cat "$all/netns.new" >>"$all/netns.record"
	rm -f "$all/netns.new"
}
counted() { sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$1" | tail -n 1; }
# How each test ended last, by files. A ring that did not come to its end has failed.
netns_table() {
	awk -v file="$1" '$1 != "#" { how[$3] = $1; s[$3] = $2 }
		END { for (t in how) { f = t; sub(/.*netns\/test_/, "", f); sub(/\.py::.*/, "", f); n[f, how[t]]++; sec[f] += s[t]; all[how[t]]++ }
		for (f in sec) printf "  netns %-12s %4d passed %3d failed %3d skipped %6.1f min\n", f, n[f, "passed"], n[f, "failed"], n[f, "skipped"], sec[f] / 60 | "sort"
		close("sort"); print all["passed"] + 0, all["failed"] + 0, all["skipped"] + 0 >file }' "$all/netns.record"
}

mkdir -p "$all"
note
now=$(tested) ok=0 bad=0 skipped=0
[ "$(head -n 1 "$all/netns.record" 2>/dev/null)" = "# $now" ] || echo "# $now" >"$all/netns.record"
for part in ${VM_ALL:-bpf auto nft netns}; do
	log="$all/$part.log"
	if [ "$(cat "$all/$part.passed" 2>/dev/null)" != "$now" ]; then
		rm -f "$all/$part.passed"
		echo "== $part"
		(run_part "$part") 2>&1 | tee "$log"
		! grep -qx 'status 77' "$log" || exit 0
		note
		! grep -qx 'status 0' "$log" || echo "$now" >"$all/$part.passed"
	fi
	n=$(counted "$log")
	if [ "$part" = netns ]; then
		netns_table "$all/netns.count"
		[ -n "$n" ] || echo "the netns ring did not come to its end; the same command goes on with it"
		[ -z "$n" ] || n=$(cat "$all/netns.count")
	fi
	# shellcheck disable=SC2086
	set -- ${n:-0 1 0}
	echo "$part: $1 passed, $2 failed, $3 skipped"
	ok=$((ok + $1)) bad=$((bad + $2)) skipped=$((skipped + $3))
done
echo "$ok passed, $bad failed, $skipped skipped"
[ $bad = 0 ]
