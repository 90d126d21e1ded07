#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Prints the path of a docker client: the machine's own, else the one of Debian's docker.io package, unpacked (not
# installed) into BUILD/docker-cli.
#   tests/docker-cli.sh [--packaged] BUILD
set -eu
packaged=
[ "${1:-}" != --packaged ] || { packaged=1; shift; }
build=${1:?usage: tests/docker-cli.sh [--packaged] BUILD}
if [ -z "$packaged" ] && own=$(command -v docker); then
	echo "$own"
	exit 0
fi
dir=$build/docker-cli
if [ ! -x "$dir/usr/bin/docker" ]; then
	mkdir -p "$build"
	work=$(mktemp -d "$build/docker-cli.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	chmod 755 "$work" # apt's sandbox user writes nowhere else
	cd "$work"
	apt-get download -q docker.io >log 2>&1 || { apt-get update -q >>log 2>&1 && apt-get download -q docker.io >>log 2>&1; } ||
		{ cat log >&2; exit 1; }
	mkdir root
	dpkg -x ./*.deb root
	cd - >/dev/null
	mkdir -p "$dir/usr/bin"
	mv "$work/root/usr/bin/docker" "$dir/usr/bin/docker"
fi
echo "$dir/usr/bin/docker"
