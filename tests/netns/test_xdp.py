# SPDX-License-Identifier: GPL-2.0-or-later
"""Published ports by XDP at a node without the task: native XDP on the lab's veth links.

    client .10 ──┬── n1 .11 (manager): XDP
                 └── n2 .12 ───────── web, also XDP
"""
import json
import re
import sys

import pytest

from conftest import LABS, new_lab
from meshlab import IMAGE, KEEPALIVE, wait_for

UDP_ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(b"hello", (sys.argv[1], 8053))
data, who = s.recvfrom(2000)
assert who == (sys.argv[1], 8053), who
print(data.decode())
"""


@pytest.fixture(scope="module")
def lab(machine):
    lab = new_lab("x", nodes=2, plane="ebpf", xdp=True)
    try:
        if "no XDP on eth0" in wait_for(lambda: driver(lab, 1), 20, "a driver"):
            pytest.skip(f"probed for native XDP on veth: {driver(lab, 1)}")
        lab.create("--name", "web", "--constraint", "node.hostname==n2", "-p", "8080:8000", "-p", "8053:8000/udp", IMAGE)
        yield lab
    finally:
        LABS.remove(lab)
        lab.down()


def driver(lab, k):
    m = re.findall(r'data plane is up driver="(.*?)" vxlan', lab.log(k))
    return m[-1] if m else ""


def events(lab, k):
    out = lab.run(["curl", "-sf", "--unix-socket", lab.sock(k), "http://x/metrics"]).stdout
    return {e: int(n) for e, n in re.findall(r'^mesh_dataplane_events_total\{event="(.*)"\} (\d+)', out, re.M)}


def by_xdp(lab, k):
    return events(lab, k)["xdp"]


def program(lab, k):
    """The XDP program on a node's uplink: its id and how it is attached."""
    link = json.loads(lab.node_exec(k, "ip", "-j", "-d", "link", "show", "eth0").stdout)[0]
    x = link.get("xdp")
    return (x["prog"]["id"], x["mode"]) if x else None


def test_said_and_in_the_driver(lab):
    assert "; XDP on eth0" in driver(lab, 1)
    assert "; XDP on eth0" in lab.meshctl(1, "node", "inspect", "--pretty", "n1").stdout
    assert program(lab, 1)[1] == 1  # XDP_ATTACHED_DRV


def test_served_through_a_node_without_the_task(lab):
    for _ in range(5):
        said = lab.fields(f"http://{lab.addr(1)}:8080/")
        assert said["client"].startswith(lab.client_addr + ":"), said
    said = lab.client(sys.executable, "-c", UDP_ASK, lab.addr(1)).stdout
    assert f"client={lab.client_addr}:" in said
    e = events(lab, 1)
    assert e["ingress"] >= 5 * 4 + 1 and e["decap"] >= 5 * 3 + 1, e

    def by_xdp_alone():  # every packet of a client, and every answer, but for one in 65536
        e = events(lab, 1)
        return e["ingress"] + e["decap"] - 1 <= e["xdp"] <= e["ingress"] + e["decap"]
    wait_for(by_xdp_alone, 10, "figures of one moment")
    # The node of the task leaves it to tc, which alone can bring packets there.
    before = by_xdp(lab, 2)
    assert lab.fields(f"http://{lab.addr(2)}:8080/")["version"] == "1"
    assert by_xdp(lab, 2) == before


def test_connections_outlive_the_daemon(lab):
    opened = lab.spawn(0, sys.executable, "-c", KEEPALIVE, lab.addr(1), stdin=-1, stdout=-1)
    assert opened.stdout.readline() == "up 1\n"

    def kept():
        opened.stdin.write("\n")
        opened.stdin.flush()
        assert opened.stdout.readline() == "kept\n"

    load = lab.load(f"{lab.addr(1)}:8080")
    first = program(lab, 1)
    lab.verb("kill", 1)
    kept()
    load.more(20)
    assert program(lab, 1) == first  # nobody is there, and it runs
    size = len(lab.log(1))
    lab.verb("start", 1)
    wait_for(lambda: "data plane is up" in lab.log(1)[size:], 30, "the data plane")
    assert program(lab, 1) == first  # it is this daemon's, too
    kept()
    lab.wait_nodes()
    before = by_xdp(lab, 1)
    kept()
    assert by_xdp(lab, 1) > before
    result = load.stop()
    assert result["ok"] > 50 and not result["failed"], result


def test_a_link_that_cannot_any_more(lab):
    """The other end of a veth takes XDP's frames while GRO is on there."""
    sw = ["ip", "netns", "exec", f"mesh-{lab.name}-sw", "ethtool", "-K", "n1", "gro"]
    size = len(lab.log(1))
    lab.run(sw + ["off"])
    wait_for(lambda: "no XDP on a link, tc does all of it link=eth0" in lab.log(1)[size:], 30, "the warning")
    wait_for(lambda: program(lab, 1) is None, 20, "the program to be gone")
    before = by_xdp(lab, 1)
    assert lab.fields(f"http://{lab.addr(1)}:8080/")["version"] == "1"
    assert by_xdp(lab, 1) == before
    lab.run(sw + ["on"])
    lab.verb("kill", 1)
    lab.verb("start", 1)
    wait_for(lambda: program(lab, 1), 30, "the program")
    lab.wait_nodes()
    assert lab.fields(f"http://{lab.addr(1)}:8080/")["version"] == "1"
    assert by_xdp(lab, 1) > before


def test_leaving_takes_it_away(lab):
    lab.meshctl(2, "swarm", "leave", "--force")
    wait_for(lambda: program(lab, 2) is None, 30, "the program to be gone")
