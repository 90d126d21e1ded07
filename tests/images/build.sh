#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the demo images mesh-demo:1 and mesh-demo:2 (busybox and the echo server) as one docker archive.
#   tests/images/build.sh OUTPUT.tar
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$out")"
gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -static -o "$work/echo" "$here/echo.c" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
strip "$work/echo"
cd "$work"
umoci init --layout l
umoci new --image l:1
umoci unpack --image l:1 b >/dev/null
root=b/rootfs
mkdir -p $root/bin $root/etc $root/tmp $root/root $root/var/www
chmod 1777 $root/tmp
cp "$(command -v busybox)" $root/bin/busybox
for a in $(busybox --list); do [ "$a" = busybox ] || ln -sf busybox "$root/bin/$a"; done
cp echo $root/bin/echo-server
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >$root/etc/passwd
printf 'root:x:0:\nnobody:x:65534:\n' >$root/etc/group
find $root -exec touch -h -d @1700000000 {} +
umoci repack --image l:1 b >/dev/null
for v in 1 2; do
	[ $v = 1 ] || umoci tag --image l:1 $v
	umoci config --image l:$v --created 2024-01-01T00:00:00Z --config.cmd /bin/echo-server --config.exposedports 8000/tcp \
		--config.env PATH=/bin --config.env VERSION=$v --config.workingdir / \
		--history.created 2024-01-01T00:00:00Z
done
# One archive, two names: skopeo appends nothing, so both are put together by hand from their own archives.
for v in 1 2; do
	skopeo copy -q oci:l:$v docker-archive:$v.tar:mesh-demo:$v
	mkdir $v && tar -C $v -xf $v.tar
done
mkdir all && cp 1/* all/ 2>/dev/null || true
cp -n 2/*.json 2/*.tar all/ 2>/dev/null || true
jq -s 'add' 1/manifest.json 2/manifest.json >all/manifest.json
rm -f all/repositories
tar -C all -cf "$out.tmp" --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner $(cd all && ls)
mv "$out.tmp" "$out"
