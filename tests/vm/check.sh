#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What `make check-vm` does on this machine: stock.sh in one guest or, with VM_TESTS=all, all there is, a guest a part.
#   tests/vm/check.sh BUILD_DIR [SECONDS]    exit status: 0 all passed, or skipped for want of qemu; 1 otherwise
#   VM_TESTS   "all": every mode of the bpf ring and every file of the netns ring
#   VM_ALL     which parts of "all": bpf auto nft, and the netns ring's files without test_ and .py
# What a part said is in BUILD_DIR/vm/parts/PART.log. A part that passed is not run again until what it tests changes, so "all" that
# was interrupted goes on where it was.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 limit=${2:-}
parts="$build/vm/parts"
if [ "${VM_TESTS:-}" != all ]; then
	rc=0
	"$here/boot.sh" "$build" "$here/stock.sh" "${limit:-2400}" || rc=$?
	[ $rc = 77 ] && exit 0
	exit $rc
fi

# Of what a part runs: the programs, and the tests with what they stand on.
tested() {
	find "$build/meshd" "$build/meshctl" "$build/mesh-shim" "$build/next/meshd" "$build/bench/loadgen" "$build/images/mesh-demo.tar" \
		"$build/tests/bpf" "$here/.." "$here/../../bench" -type f ! -name '*.o' ! -name '*.d' ! -name '*.pyc' -exec sha256sum {} + |
		sed 's/ .*//' | sha256sum
}
run_part() { # NAME, of tests/netns or a part of stock.sh
	case $1 in
	bpf) VM_PARTS="tables path" ;;
	auto | nft) VM_PARTS=$1 ;;
	*) VM_PARTS=netns VM_TESTS=test_$1.py VM_CPUS=${VM_CPUS:-1} ;;
	esac
	export VM_PARTS VM_TESTS
	[ -z "${VM_CPUS:-}" ] || export VM_CPUS
	"$here/boot.sh" "$build" "$here/stock.sh" "${limit:-5400}"
}

mkdir -p "$parts"
now=$(tested) ok=0 bad=0 skipped=0 table=""
files=$(cd "$here/../netns" && ls test_*.py | sed 's/^test_//; s/\.py$//')
for part in ${VM_ALL:-bpf auto nft $files}; do
	log="$parts/$part.log" since=$(date +%s) how=""
	if [ "$(cat "$parts/$part.passed" 2>/dev/null)" = "$now" ]; then
		how=" (before, of the same build)"
	else
		rm -f "$parts/$part.passed"
		echo "== $part"
		{ (run_part "$part") && rc=0 || rc=$?; echo "status $rc, minutes $((($(date +%s) - since + 30) / 60))"; } 2>&1 | tee "$log"
		! grep -q '^status 77,' "$log" || exit 0
	fi
	minutes=$(sed -n 's/^status .*, minutes //p' "$log")
	# shellcheck disable=SC2046
	set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$log" | tail -n 1)
	[ $# = 3 ] || set -- 0 1 0
	ok=$((ok + $1)) bad=$((bad + $2)) skipped=$((skipped + $3))
	[ "$2" != 0 ] || echo "$now" >"$parts/$part.passed"
	table="$table$(printf '%-14s %4s passed %3s failed %3s skipped %4s min%s' "$part" "$1" "$2" "$3" "$minutes" "$how")
"
done
printf '%s' "$table"
echo "$ok passed, $bad failed, $skipped skipped"
[ $bad = 0 ]
