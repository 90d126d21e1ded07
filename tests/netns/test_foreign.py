# SPDX-License-Identifier: GPL-2.0-or-later
"""What is not ours stays as it is: devices, tables, rules, routes and filters with names like ours, through a whole life.
And a daemon that missed what the kernel told looks at everything again."""
import json
import os
import re
import signal

from meshlab import IMAGE, wait_for


def mark_of(lab, k):
    """What the names of the node's own devices begin with."""
    return next(l["ifname"][:-2] for l in json.loads(lab.node_exec(k, "ip", "-j", "link", "show", "type", "vxlan").stdout)
                if l["ifname"].endswith("vx"))


def uplink(lab, k):
    return next(l["ifname"] for l in json.loads(lab.node_exec(k, "ip", "-j", "addr").stdout)
                if lab.addr(k) in [a["local"] for a in l["addr_info"]])


FOREIGN = """
set -e
ip link add {like}0 type veth peer name {like}1
ip link set {like}0 up
ip link set {like}1 up
ip addr add 192.0.2.1/24 dev {like}0
ip route add 198.51.100.0/24 via 192.0.2.2 dev {like}0 proto 66
ip link add my{mark}vx type vxlan id 77 dstport 4790
ip neigh add 192.0.2.2 lladdr 02:42:0a:00:00:0b dev {like}0 nud permanent
ip rule add from 192.0.2.0/24 lookup 777 pref 777
nft 'add table ip {mark}_lb2; add chain ip {mark}_lb2 c {{ type filter hook forward priority 5; }}; add rule ip {mark}_lb2 c ip saddr 192.0.2.9 counter drop'
nft 'add table inet x{mark}; add set inet x{mark} tasks {{ type ipv4_addr; elements = {{ 10.0.0.11 }}; }}'
tc qdisc add dev {like}0 clsact 2>/dev/null || tc qdisc show dev {like}0 | grep clsact # without tcx an uplink has one from us
tc filter add dev {like}0 ingress pref {pref} protocol ip u32 match ip src 192.0.2.77 flowid 1:7
"""
# Where there is no tcx, a device with an address has a filter from us, which comes and goes.
OUR_FILTER = r"filter protocol all pref 28005 bpf .*\n"


def look(lab, k, mark, like):
    def out(*argv):
        return lab.node_exec(k, *argv, rc=None).stdout
    links = [(l["ifname"], l["address"], "UP" in l["flags"], l["mtu"], [a["local"] for a in l["addr_info"] if a["family"] == "inet"]) for d in (like + "0", like + "1", f"my{mark}vx")
             for l in json.loads(out("ip", "-j", "addr", "show", "dev", d) or "[]")]
    return {"links": links, "routes": out("ip", "route", "show", "proto", "66"), "neigh": out("ip", "neigh", "show", "dev", like + "0", "nud", "permanent"),
            "rules": out("ip", "rule", "show", "pref", "777"), "lb2": out("nft", "list", "table", "ip", mark + "_lb2"),
            "inet": out("nft", "list", "table", "inet", "x" + mark),
            "tc": re.sub(OUR_FILTER, "", out("tc", "filter", "show", "dev", like + "0", "ingress"))}


def life(lab):
    lab.meshctl(1, "network", "create", "-d", "overlay", "net")
    lab.create("--name", "web", "--network", "net", "--mode", "global", "-p", "8080:8000", "--stop-grace-period", "1s", IMAGE, n=2)
    lab.meshctl(1, "service", "update", "-d", "--publish-add", "8081:8000", "web")
    for k in lab.nodes:
        size = len(lab.log(k))
        lab.verb("kill", k)
        lab.verb("start", k)
        wait_for(lambda: "taken over from before" in lab.log(k)[size:], 30, f"n{k} to have taken over")
    lab.wait_nodes()
    assert lab.fields(f"http://{lab.addr(2)}:8080/")["version"] == "1"
    lab.meshctl(1, "service", "rm", "web")
    wait_for(lambda: not lab.tasks(), 30, "the tasks to be gone")


def check_foreign(lab):
    mark = mark_of(lab, 2)
    like = mark[:-1] + ("y" if mark[-1] != "y" else "z")
    pref = 28006 if "clsact" in lab.driver(2) else 28005  # of ours, where it is free
    lab.node_exec(2, "sh", "-c", FOREIGN.format(mark=mark, like=like, pref=pref))
    before = look(lab, 2, mark, like)
    assert len(before["links"]) == 3 and before["routes"] and before["rules"] and "192.0.2.9" in before["lb2"] and f"pref {pref} u32" in before["tc"]
    life(lab)
    assert look(lab, 2, mark, like) == before
    lab.meshctl(2, "swarm", "leave", "--force")
    assert look(lab, 2, mark, like) == before


def test_foreign_things_stay(fresh_lab):
    lab = fresh_lab(nodes=2, plane="ebpf")
    other = f"mesh-{lab.name}x-n1"
    lab.run(["ip", "netns", "add", other])
    try:
        check_foreign(lab)
        lab.down()
        assert other in lab.run(["ip", "netns", "list"]).stdout
    finally:
        lab.run(["ip", "netns", "del", other], rc=None)


def test_foreign_things_stay_beside_nft(fresh_lab):
    check_foreign(fresh_lab(nodes=2, plane="nft"))


def test_what_the_kernel_told_in_vain(lab):
    """More news than the socket holds while the daemon cannot read: the address among them is found all the same."""
    lab.create("--name", "web", "-p", "8080:8000", IMAGE)
    extra = lab.addr(1).rsplit(".", 1)[0] + ".201"
    dev = uplink(lab, 1)
    os.kill(lab.pid(1), signal.SIGSTOP)
    try:
        lab.node_exec(1, "sh", "-c", f"i=0; while [ $i -lt 1500 ]; do echo link set dev {dev} alias a$i; [ $i = 1200 ] && echo addr add {extra}/24 dev {dev}; "
                      "i=$((i+1)); done | ip -batch -", timeout=60)
    finally:
        os.kill(lab.pid(1), signal.SIGCONT)
    try:
        wait_for(lambda: lab.fields(f"http://{extra}:8080/")["version"] == "1", 20, "the published port on the new address")
    finally:
        lab.node_exec(1, "sh", "-c", f"ip addr del {extra}/24 dev {dev}; ip link set dev {dev} alias ''", rc=None)
