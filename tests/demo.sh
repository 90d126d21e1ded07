#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# `make demo`: a three-node cluster on this machine, serving, explained as it goes.
#   tests/demo.sh BUILD_DIR
set -eu
build=$1
ctl="$build/meshctl"
lab=demo
here=$(cd "$(dirname "$0")" && pwd)

step() { printf '\n\033[1m── %s\033[0m\n' "$1"; }
say() { printf '   %s\n' "$1"; }
run() {
	printf '\033[36m$ %s\033[0m\n' "$*" | sed "s#$build/##"
	"$@"
}
fail() { printf '\ndemo: %s\n      logs: /var/lib/mesh/%s/n*/meshd.log\n' "$1" "$lab" >&2; exit 1; }
# until SECONDS COMMAND...: waits for a condition, with a dot a try.
until_ok() {
	limit=$1; shift
	end=$(($(date +%s) + limit))
	while ! "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		printf '.'; sleep 0.2
	done
}

[ "$(id -u)" = 0 ] || { echo "demo: needs root (network namespaces, BPF)" >&2; exit 1; }
"$ctl" lab down --name $lab >/dev/null 2>&1 || true

step "1. Three machines become one"
say "Each node is a network namespace with its own daemon, cgroup and disk; they meet on an emulated switch."
run "$ctl" lab up --name $lab --nodes 3
address() { "$ctl" lab ls --name $lab --format json | jq -r "select(.name==\"$1\") | .address"; }
N1=$(address n1) N2=$(address n2) N3=$(address n3)
MESH_HOST="unix:///run/mesh/$lab/n1.sock"
export MESH_HOST
run "$ctl" node ls

step "2. An image, on every node, without a registry"
for n in 1 2 3; do
	MESH_HOST="unix:///run/mesh/$lab/n$n.sock" "$ctl" load -q -i "$build/images/mesh-demo.tar"
done
run "$ctl" images

step "3. Two services on an overlay network, from a stack file"
say "'front' is published on port 8080 of every node; it asks 'back' by name."
sed -n '/^services/,$p' "$here/demo/shop.yml" | sed 's/^/   /'
run "$ctl" stack deploy --detach=false -c "$here/demo/shop.yml" shop
run "$ctl" service ls
run "$ctl" service ps shop_front

step "4. Every node's address answers, and the task sees who really asked"
say "From a client outside the cluster ($("$ctl" lab client --name $lab -- hostname -I 2>/dev/null | cut -d" " -f1)); any node passes the connection on without hiding the client's address."
for a in $N1 $N2 $N3; do
	for i in 1 2; do
		printf '\033[36m$ curl http://%s:8080/\033[0m\n   ' "$a"
		"$ctl" lab client --name $lab -- curl -s -m 5 "http://$a:8080/" || fail "$a:8080 does not answer"
	done
done

step "5. Names, and one service asking another"
task=$("$ctl" ps -q | head -n 1)
run "$ctl" exec "$task" nslookup back 127.0.0.11 || fail "no name 'back'"
printf '\033[36m$ curl http://%s:8080/back\033[0m\n   ' "$N2"
"$ctl" lab client --name $lab -- curl -s -m 8 "http://$N2:8080/back" || fail "front cannot ask back"

step "6. More of it"
run "$ctl" service scale shop_front=6
run "$ctl" service ps shop_front

step "7. A task dies; it is replaced"
victim=$("$ctl" ps -q --filter name=shop_front | head -n 1)
[ -n "$victim" ] || victim=$("$ctl" ps -q | head -n 1)
run "$ctl" rm -f "$victim"
died() { "$ctl" service ps --no-trunc shop_front | grep -q "Failed"; }
until_ok 30 died || fail "nobody noticed that the task died"
count() { [ "$("$ctl" service ls --filter name=shop_front --format '{{.Replicas}}')" = 6/6 ]; }
until_ok 30 count || fail "the task was not replaced"
echo
run "$ctl" service ps shop_front
printf '\033[36m$ curl http://%s:8080/\033[0m\n   ' "$N3"
"$ctl" lab client --name $lab -- curl -s -m 5 "http://$N3:8080/"

step "8. A new version, one task at a time, while a client asks without pause"
answers=$(mktemp)
"$ctl" lab client --name $lab -- sh -c "while [ -e $answers ]; do curl -s -m 5 http://$N1:8080/ || echo FAILED; done" >"$answers.log" 2>&1 &
asking=$!
TAG=2 run "$ctl" stack deploy --detach=false -c "$here/demo/shop.yml" shop
rm -f "$answers"
wait $asking || true
say "$(grep -c version=1 "$answers.log") answers of version 1, $(grep -c version=2 "$answers.log") of version 2, $(grep -c FAILED "$answers.log") failed"
rm -f "$answers.log"
run "$ctl" service ps --filter desired-state=running shop_front

cat <<MSG

The cluster is up. Try next:

   export MESH_HOST=$MESH_HOST        (or DOCKER_HOST, for the docker client)
   $ctl service logs -f shop_front
   $ctl stack ps shop
   $ctl lab kill n2 --name $lab                  its tasks and traffic go on
   $ctl lab client --name $lab -- curl http://$N1:8080/
   docker -H $MESH_HOST service ls

Remove it with:  make demo-down
MSG
