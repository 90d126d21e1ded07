#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the Debian packages that are missing. One list; why each is there: docs/architecture.md.
set -eu
build="gcc make clang llvm pkg-config bpftool linux-libc-dev
 libuv1-dev libnl-3-dev libnl-route-3-dev libmnl-dev libnftnl-dev libnftables-dev libbpf-dev libelf-dev zlib1g-dev
 libwolfssl-dev libmicrohttpd-dev libjansson-dev libyaml-dev libsmartcols-dev"
run="crun skopeo umoci iproute2 nftables util-linux golang-github-containers-common ca-certificates"
test="libcmocka-dev libldns-dev libclang-rt-14-dev python3 python3-pytest python3-docker busybox-static
 docker-registry apache2-utils ethtool jq curl cppcheck clang-format"
missing=""
for p in $build $run $test; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "make deps: as root, or install by hand:$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# A daemon that comes with a package (docker-registry) must not start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086
apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 || {
	apt-get update -q >/dev/null
	apt-get install -y --no-install-recommends $missing >/dev/null
}
