#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Boots Debian's stock kernel in qemu over this machine's own root (read-only, 9p, with a tmpfs on top) and runs a script.
#   tests/vm/boot.sh [-i] BUILD_DIR SCRIPT [SECONDS]    exit status: the script's; 77 when something it needs is missing
#   -i   one CPU whose clock is the instructions it executed, one a nanosecond: what code costs, exactly
#   VM_CPUS=2    how many, if not -i
# Variables VM_* are handed on. Files that the script leaves in /mnt/keep are copied to BUILD_DIR; the guest's words to this machine go to /mnt/log.
# The guest is what most users run: kernel 6.1, pure cgroup v2, modules. Nothing it does reaches this machine.
set -eu
# An emulated "rep movsb" takes a step a byte: the kernel shall copy with moves (112: rep_good). Programs load in 2/3 of the time.
cpus="-accel tcg,thread=multi,tb-size=512 -smp ${VM_CPUS:-2} -cpu max,-erms,-fsrm" append="clearcpuid=112"
if [ "$1" = -i ]; then
	cpus="-accel tcg,thread=single,tb-size=512 -smp 1 -icount shift=0,sleep=off -cpu max" append=""
	shift
fi
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
script=$(readlink -f "$2")
limit=${3:-600}
vm="$build/vm"

skip() { echo "skipped: $1"; exit 77; }
for p in qemu-system-x86_64 cpio depmod busybox; do
	command -v $p >/dev/null || skip "$p is missing (apt-get install qemu-system-x86 cpio kmod busybox-static)"
done
mkdir -p "$vm"
if [ ! -e "$vm/kernel/boot" ]; then
	name=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$name" ] || skip "no kernel package is known (apt-get update)"
	echo "fetching $name"
	(cd "$vm" && apt-get download -q "$name" >/dev/null 2>&1) || skip "cannot fetch $name"
	rm -rf "$vm/kernel.tmp"
	dpkg -x "$vm"/linux-image-*.deb "$vm/kernel.tmp"
	rm -f "$vm"/linux-image-*.deb
	mv "$vm/kernel.tmp" "$vm/kernel"
fi
version=$(ls "$vm/kernel/lib/modules")
[ -e "$vm/kernel/lib/modules/$version/modules.dep" ] || depmod -b "$vm/kernel" "$version"
# Unpacked here rather than by the emulated CPU: the ELF image inside the compressed kernel.
[ -e "$vm/vmlinux" ] || python3 - "$vm/kernel/boot/vmlinuz-$version" "$vm/vmlinux" <<'PY'
import lzma, sys
data = open(sys.argv[1], "rb").read()
at = data.find(b"\xfd7zXZ\x00")
open(sys.argv[2], "wb").write(lzma.LZMADecompressor().decompress(data[at:]))
PY
if [ ! -e "$vm/initrd.gz" ] || [ "$here/boot.sh" -nt "$vm/initrd.gz" ]; then
	rm -rf "$vm/initrd"
	mkdir -p "$vm/initrd/bin" "$vm/initrd/m" "$vm/initrd/proc" "$vm/initrd/sys" "$vm/initrd/dev"
	cp "$(command -v busybox)" "$vm/initrd/bin/busybox"
	order=""
	for m in netfs fscache 9pnet 9p virtio_ring virtio 9pnet_virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci overlay; do
		file=$(find "$vm/kernel/lib/modules" -name "$m.ko" | head -n 1)
		[ -n "$file" ] || continue
		cp "$file" "$vm/initrd/m/"
		order="$order $m.ko"
	done
	cat >"$vm/initrd/init" <<INIT
#!/bin/busybox sh
B=/bin/busybox
\$B mount -t proc p /proc; \$B mount -t devtmpfs d /dev
for m in$order; do \$B insmod /m/\$m; done
\$B mkdir -p /low /up /new
\$B mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro host /low
\$B mount -t tmpfs t /up; \$B mkdir /up/u /up/w
\$B mount -t overlay o -o lowerdir=/low,upperdir=/up/u,workdir=/up/w /new
for d in proc sys dev; do \$B mkdir -p /new/\$d; done
\$B mount -t proc p /new/proc; \$B mount -t sysfs s /new/sys; \$B mount -t devtmpfs d /new/dev
exec \$B switch_root /new /bin/sh $vm/guest.sh
INIT
	chmod +x "$vm/initrd/init"
	(cd "$vm/initrd" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$vm/initrd.gz"
fi
out=$(mktemp -d) qemu=""
mkdir -p "$out/keep/vm/all"
trap 'cp -r "$out/keep/." "$build/"; rm -rf "$out"' EXIT
trap 'kill $qemu 2>/dev/null; exit 143' INT TERM
cp "$script" "$out/script"
env | sed -n "s/^\(VM_[A-Z]*\)=\(.*\)/\1='\2'; export \1/p" >"$out/env"
cat >"$vm/guest.sh" <<GUEST
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root MESH_BUILD=$build
export GOGC=off GOMAXPROCS=1 # skopeo, umoci and the docker client: short lives need no collector
mount -t tmpfs t /run; mount -t tmpfs t /var/lib; mount -t tmpfs t /mnt
mount -t cgroup2 c /sys/fs/cgroup; mount -t bpf b /sys/fs/bpf; mount -t 9p -o trans=virtio,version=9p2000.L,cache=none out /mnt
mkdir -p /lib/modules/$version; mount --bind $vm/kernel/lib/modules/$version /lib/modules/$version
ip link set lo up
for m in vxlan veth bridge cls_bpf sch_ingress nf_tables nft_masq nft_ct nft_nat nft_chain_nat tcp_diag udp_diag inet_diag ip_vs ip_vs_rr ip_vs_mh xt_ipvs; do modprobe -q \$m; done
cd $(cd "$here/../.." && pwd)
. /mnt/env
sh /mnt/script >/mnt/log 2>&1
echo \$? >/mnt/rc
sync
printf '\\007' | dd of=/dev/port bs=1 seek=1281 count=1 2>/dev/null
GUEST
# shellcheck disable=SC2086
timeout -k 5 "$limit" qemu-system-x86_64 -M q35,hpet=off $cpus -m 3072 \
	-nodefaults -no-user-config -display none -no-reboot -kernel "$vm/vmlinux" -initrd "$vm/initrd.gz" \
	-append "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off tsc=reliable no_timer_check norandmaps $append" \
	-serial "file:$out/serial" -device isa-debug-exit,iobase=0x501,iosize=1 \
	-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
	-virtfs "local,path=$out,mount_tag=out,security_model=none" >"$out/qemu" 2>&1 &
qemu=$!
# What the guest says is said here as it comes.
: >>"$out/log"
tail -n +1 -f --pid=$qemu "$out/log" &
wait $qemu || true
wait $! || true
if [ ! -e "$out/rc" ]; then
	echo "the guest did not finish within $limit s"
	tail -n 20 "$out/serial" "$out/qemu" 2>/dev/null
	exit 1
fi
exit "$(cat "$out/rc")"
