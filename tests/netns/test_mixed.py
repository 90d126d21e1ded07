# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes with the nft driver, alone and beside nodes with the ebpf driver: the same cluster to whoever uses it.

    client .10 ──┬── n1 .11 (manager) ── web, ask         one task of each service on each node
                 ├── n2 .12 ──────────── web, ask
                 └── n3 .13 ──────────── web, ask
"""
import re
import sys

import pytest

from conftest import LABS, new_lab
from meshlab import IMAGE, wait_for

UDP_ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
data, who = s.recvfrom(2000)
assert who == (sys.argv[1], int(sys.argv[2])), who
print(data.decode())
"""
DRIVERS = {"nft": {1: "nft", 2: "nft", 3: "nft"}, "n2=nft": {1: "ebpf", 2: "nft", 3: "ebpf"}, "n1=nft,n3=nft": {1: "nft", 2: "ebpf", 3: "nft"}}


@pytest.fixture(scope="module", params=list(DRIVERS))
def world(machine, request):
    """The lab with its services: everything below only asks."""
    lab = new_lab("m", plane=request.param)
    lab.plane = request.param
    try:
        lab.meshctl(1, "network", "create", "-d", "overlay", "net")
        lab.web = lab.create("--name", "web", "--network", "net", "--mode", "global", "-p", "8080:8000", "-p", "8053:8000/udp", IMAGE, n=3)
        lab.ask = lab.create("--name", "ask", "--network", "net", "--mode", "global", "--stop-signal", "SIGKILL", IMAGE,
                             "sleep", "100000", n=3)
        yield lab
    finally:
        LABS.remove(lab)
        lab.down()


def hosts_of(ask, tries=40):
    """Who answers, until all three have."""
    seen = set()
    for _ in range(tries):
        seen.add(ask())
        if len(seen) == 3:
            break
    return seen


def test_driver_is_said(world):
    for k, driver in DRIVERS[world.plane].items():
        assert f'driver="{driver}: ' in world.log(k)
        said = world.meshctl(1, "node", "inspect", "--pretty", f"n{k}").stdout
        assert f"Data Plane:\t\t{driver}: " in said


def test_published_ports_from_outside(world):
    for a in world.addresses:
        def ask():
            r = world.fields(f"http://{a}:8080/")
            assert r["client"].split(":")[0] == world.client_addr
            return r["host"]
        assert len(hosts_of(ask)) == 3, a


def test_published_udp_from_outside(world):
    for a in world.addresses:
        out = world.client(sys.executable, "-c", UDP_ASK, a, "8053").stdout
        assert f"client={world.client_addr}:" in out and "said=hello" in out


def test_published_ports_from_the_nodes(world):
    for k in world.nodes:
        for a in world.addresses:
            def ask():
                r = world.fields(f"http://{a}:8080/", where=k)
                assert r["client"].split(":")[0] == world.addr(k), (k, a)
                return r["host"]
            assert len(hosts_of(ask)) == 3, (k, a)
        if DRIVERS[world.plane][k] == "nft":
            for _ in range(6):
                assert world.fields("http://127.0.0.1:8080/", where=k)["version"] == "1"


def test_more_than_a_packet(world):
    """A request that no single frame holds, through the tunnel and back."""
    for a in world.addresses:
        for _ in range(6):
            assert world.fields(f"http://{a}:8080/{'x' * 3000}")["version"] == "1"


def test_virtual_address_and_names(world):
    for t in world.ask:
        def ask():
            out = world.exec(t, "timeout", "4", "wget", "-q", "-O", "-", "http://web:8000/").stdout
            return re.search(r"host=(\S+)", out).group(1)
        assert len(hosts_of(ask)) == 3
        # Outside the tasks' cgroup no socket hook translates: packet by packet.
        addr = next(v["Addr"].split("/")[0] for v in world.get(1, "/services/web")["Endpoint"]["VirtualIPs"] if not v["Addr"].startswith("10.0.0."))
        assert "version=1" in world.inside(t, "curl", "-sS", "-m", "4", f"http://{addr}:8000/").stdout


def test_ping(world):
    for t in world.ask:
        for other in world.web + world.ask:
            addr = next(a.split("/")[0] for n in other["NetworksAttachments"] if n["Network"]["Spec"]["Name"] == "net" for a in n["Addresses"])
            assert "1 packets received" in world.exec(t, "ping", "-c", "1", "-W", "2", addr).stdout


def label(world, *pairs):
    world.meshctl(1, "service", "update", "-d", *[x for p in pairs for x in ("--label-add", p)], "web")


def seen_at(world, a, n=12):
    """Who answers n connections at a node's address; None when one is not answered."""
    out = world.client("sh", "-c", f"for i in $(seq {n}); do curl -sS -m 2 http://{a}:8080/ || echo failed; done", rc=None).stdout
    return None if "failed" in out else set(re.findall(r"host=(\S+)", out))


def test_labels(world):
    """Local tasks, affinity, sources, addresses, direct return: the same with either driver."""
    here = {world.addr(world.node_number(t)): t["Status"]["ContainerStatus"]["ContainerID"][:12] for t in world.web}
    label(world, "mesh.publish.local=prefer")
    for a in world.addresses:
        wait_for(lambda: seen_at(world, a) == {here[a]}, 10, f"{a} to serve by itself")
    label(world, "mesh.publish.local=off", "mesh.affinity=client")
    for a in world.addresses:
        wait_for(lambda: len(seen_at(world, a, 20)) == 1, 10, f"{a} to give the client one task")
    label(world, "mesh.affinity=none", "mesh.publish.return=direct")
    for a in world.addresses:
        wait_for(lambda: len(seen_at(world, a, 25)) == 3, 10, f"{a} to reach all, answered directly")
    label(world, "mesh.publish.return=tunnel", "mesh.publish.sources=203.0.113.0/24")
    for a in world.addresses:
        wait_for(lambda: world.curl(f"http://{a}:8080/", rc=None, m=1).returncode == 28, 10, f"{a} to drop the client")
    label(world, f"mesh.publish.sources=203.0.113.0/24,{world.client_addr}", f"mesh.publish.addresses={world.addr(1)}")
    wait_for(lambda: seen_at(world, world.addr(1)), 10, "n1 to let the client in")
    wait_for(lambda: world.curl(f"http://{world.addr(2)}:8080/", rc=None, m=1).returncode == 7, 10, "n2's address to refuse")
    world.meshctl(1, "service", "update", "-d", "--label-rm", "mesh.publish.sources", "--label-rm", "mesh.publish.addresses", "web")
    for a in world.addresses:
        wait_for(lambda: len(seen_at(world, a, 25)) == 3, 10, f"{a} to be as before")


def test_split(world):
    other = world.create("--name", "other", "--network", "net", "-p", "8000", IMAGE)[0]["Status"]["ContainerStatus"]["ContainerID"][:12]
    inside = lambda: set(re.findall(r"host=(\S+)", world.exec(world.ask[0], "sh", "-c", "for i in $(seq 12); do timeout 4 wget -q -O - http://web:8000/;"
                                                              " done").stdout))
    world.meshctl(1, "service", "split", "web=0", "other=1")
    for a in world.addresses:
        wait_for(lambda: seen_at(world, a) == {other}, 10, f"{a} to send everything there")
    wait_for(lambda: inside() == {other}, 10, "the virtual IP to go there")
    world.meshctl(1, "service", "split", "--rm", "web")
    for a in world.addresses:
        wait_for(lambda: other not in seen_at(world, a) and len(seen_at(world, a, 25)) == 3, 10, f"{a} to be as before")
    world.meshctl(1, "service", "rm", "other")


def test_restart_of_the_daemons(world):
    """Forwarding needs no daemon; a restarted one takes over what stands."""
    for k in world.nodes[1:]:
        world.verb("kill", k)
    for a in world.addresses:
        assert world.fields(f"http://{a}:8080/")["version"] == "1"
    for k in world.nodes[1:]:
        world.verb("start", k)
    world.wait_nodes()
    for a in world.addresses:
        assert len(hosts_of(lambda: world.fields(f"http://{a}:8080/")["host"])) == 3


def test_removed_service_is_gone(world):
    world.meshctl(1, "service", "rm", "web")
    for a in world.addresses:
        wait_for(lambda: world.curl(f"http://{a}:8080/", rc=None, m=2).returncode == 7, 30, "the port to be closed")
