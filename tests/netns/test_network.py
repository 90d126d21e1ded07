# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks, virtual IPs, published ports and names, as tasks and as a client outside see them: the same whichever
driver the nodes have, also when n2 has another than n1 and n3.

    client .10 ──┬── n1 .11 (manager) ── tasks          overlays: VXLAN between the nodes
                 ├── n2 .12 ──────────── tasks
                 └── n3 .13 ──────────── tasks
"""
import os
import re
import signal
import sys
import time

import pytest

from conftest import each_plane
from meshlab import IMAGE, wait_for

UDP_ASK = """
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
for i in range(2):
    if kind == "connected":
        if not i:
            s.connect((host, port))
        s.send(b"hello%d" % i)
        data, who = s.recv(2000), (host, port)
    else:
        s.sendto(b"hello%d" % i, (host, port))
        data, who = s.recvfrom(2000)
    assert who == (host, port), (who, data)
    print(data.decode())
"""


pytestmark = each_plane


def hosts_of(ask, n, tries=80):
    """Who answers, until n have."""
    seen = set()
    for _ in range(tries):
        seen.add(ask())
        if len(seen) == n:
            break
    return seen


def sleeper(lab, *args, name="cli", n=1):
    """A service whose tasks do nothing: from them the tests ask."""
    return lab.create("--name", name, "--replicas", str(n), "--stop-signal", "SIGKILL", *args, IMAGE, "sleep", "100000", n=n)


def fetch(lab, task, url, rc=0, seconds=4):
    """wget from a task. Its own -T crashes in Debian's static busybox: hence timeout, which ends with 143."""
    return lab.exec(task, "timeout", str(seconds), "wget", "-O", "-", url, rc=rc)


def get(lab, task, url):
    """The demo server's answer to a task, as a dict."""
    return dict(re.findall(r"(\w+)=(\S*)", fetch(lab, task, url).stdout))


def lookup(lab, task, name, kind="a", timeout=10):
    """(sorted addresses, error text) as busybox nslookup prints them."""
    p = lab.exec(task, "nslookup", "-type=" + kind, name, "127.0.0.11", rc=None, timeout=timeout)
    answer = p.stdout.split("\n\n", 1)[-1]
    return sorted(set(re.findall(r"^Address(?: \d+)?: (\d+\.\d+\.\d+\.\d+)$", answer, re.M))), p.stdout + p.stderr


def addresses(task, net=None):
    return [a.split("/")[0] for x in task["NetworksAttachments"] if net in (None, x["Network"]["Spec"]["Name"]) for a in x["Addresses"]]


def address(task, net):
    return addresses(task, net)[0]


def vip(lab, service, net):
    nets = {n["Name"]: n["Id"] for n in lab.get(1, "/networks")}
    return next(v["Addr"].split("/")[0] for v in lab.get(1, f"/services/{service}")["Endpoint"]["VirtualIPs"]
                if v["NetworkID"] == nets[net])


def overlay(lab, name, *args):
    lab.meshctl(1, "network", "create", "-d", "overlay", *args, name)


# ---- networks ----

def test_task_on_several_overlays(lab):
    overlay(lab, "n-a")
    overlay(lab, "n-b")
    lab.create("--name", "a", "--network", "n-a", IMAGE)
    lab.create("--name", "b", "--network", "n-b", IMAGE)
    both = lab.create("--name", "both", "--replicas", "3", "--network", "n-a", "--network", "n-b", IMAGE, n=3)
    only_a = sleeper(lab, "--network", "n-a", *resolver(lab))[0]
    for t in both:
        assert len(t["NetworksAttachments"]) == 2
        assert get(lab, t, "http://a:8000/")["client"].split(":")[0] == address(t, "n-a")
        assert get(lab, t, "http://b:8000/")["client"].split(":")[0] == address(t, "n-b")
    # the other way: each side reaches it on its own network, and only there
    assert get(lab, only_a, "http://both:8000/")["self"].split(":")[0] in [address(t, "n-a") for t in both]
    assert lookup(lab, only_a, "both")[0] == [vip(lab, "both", "n-a")]
    assert lookup(lab, only_a, "b")[0] == []


def test_networks_are_isolated(lab):
    overlay(lab, "n-a")
    overlay(lab, "n-b")
    a = lab.create("--name", "a", "--replicas", "3", "--network", "n-a", IMAGE, n=3)
    b = sleeper(lab, "--network", "n-b", n=3)
    for asker in b[:1]:
        for target in [address(t, "n-a") for t in a] + [vip(lab, "a", "n-a")]:
            assert fetch(lab, asker, f"http://{target}:8000/", rc=None, seconds=1).returncode in (1, 143)
    lab.exec(b[0], "ping", "-c", "1", "-W", "1", address(a[0], "n-a"), rc=1)


# ---- virtual IPs ----

def test_vip_tcp_spreads_and_reaches_every_node(lab):
    overlay(lab, "net")
    web = lab.create("--name", "web", "--replicas", "3", "--network", "net", IMAGE, n=3)
    assert len({t["NodeID"] for t in web}) == 3
    for asker in sleeper(lab, "--network", "net", n=3):
        p = lab.exec(asker, "sh", "-c", "for i in $(seq 40); do timeout 4 wget -q -O - http://web:8000/ || echo failed; done")
        assert "failed" not in p.stdout
        assert {address(t, "net") for t in web} == set(re.findall(r"self=([\d.]+):8000", p.stdout))
        assert set(re.findall(r"client=([\d.]+):", p.stdout)) == {address(asker, "net")}


@pytest.mark.parametrize("kind", ["connected", "unconnected"])
def test_vip_udp(lab, kind):
    """Connected and unconnected datagrams to a VIP; the answer comes from the VIP."""
    overlay(lab, "net")
    lab.create("--name", "web", "--replicas", "2", "--network", "net", IMAGE, n=2)
    asker = sleeper(lab, "--network", "net", "--mount", f"type=bind,source=/usr,target=/usr,readonly",
                    "--mount", "type=bind,source=/lib,target=/lib,readonly", "--mount", "type=bind,source=/lib64,target=/lib64,readonly")[0]
    out = lab.exec(asker, sys.executable, "-c", UDP_ASK, vip(lab, "web", "net"), "8000", kind).stdout
    assert "said=hello0" in out and "said=hello1" in out and f"client={address(asker, 'net')}:" in out


def test_vip_answers_ping_and_closed_ports_refuse(lab):
    overlay(lab, "net")
    lab.create("--name", "web", "--replicas", "2", "--network", "net", IMAGE, n=2)
    asker = sleeper(lab, "--network", "net")[0]
    assert "2 packets received" in lab.exec(asker, "ping", "-c", "2", "-W", "2", "web").stdout
    begin = time.monotonic()
    assert "refused" in fetch(lab, asker, "http://web:8001/", rc=1, seconds=5).stderr
    assert time.monotonic() - begin < 4


def test_dnsrr(lab):
    overlay(lab, "net")
    web = lab.create("--name", "web", "--replicas", "3", "--network", "net", "--endpoint-mode", "dnsrr", IMAGE, n=3)
    asker = sleeper(lab, "--network", "net")[0]
    wait_for(lambda: lookup(lab, asker, "web")[0] == sorted(address(t, "net") for t in web), 10, "three addresses of web")
    assert not (lab.get(1, "/services/web")["Endpoint"].get("VirtualIPs"))
    seen = {get(lab, asker, "http://web:8000/")["self"] for _ in range(20)}
    assert len(seen) >= 2


def test_vip_from_outside_the_cgroup(lab):
    """A process in the task's network that the socket hooks do not see: each packet is translated instead."""
    overlay(lab, "net")
    web = lab.create("--name", "web", "--replicas", "2", "--network", "net", IMAGE, n=2)
    asker = sleeper(lab, "--network", "net")[0]

    def ask():
        out = lab.inside(asker, "curl", "-sS", "-m", "4", f"http://{vip(lab, 'web', 'net')}:8000/").stdout
        assert f"client={address(asker, 'net')}:" in out
        return re.search(r"self=([\d.]+):", out)[1]
    assert hosts_of(ask, 2) == {address(t, "net") for t in web}
    for kind in ("connected", "unconnected"):
        assert "said=hello1" in lab.inside(asker, sys.executable, "-c", UDP_ASK, vip(lab, "web", "net"), "8000", kind).stdout


# ---- published ports ----

def test_ingress_everywhere(lab):
    """Every node's address, from outside, from each node itself, through 127.0.0.1; the client's address is seen."""
    web = lab.create("--name", "web", "--replicas", "2", "-p", "8080:8000", "-p", "8053:8000/udp", IMAGE, n=2)
    assert len({t["NodeID"] for t in web}) == 2
    lab.wait_published(8080)
    for a in lab.addresses:
        def ask():
            r = lab.fields(f"http://{a}:8080/{'x' * 3000}")  # more than a packet
            assert r["client"].split(":")[0] == lab.client_addr
            return r["host"]
        assert len(hosts_of(ask, 2)) == 2, "one task gets everything"
        out = lab.client(sys.executable, "-c", UDP_ASK, a, "8053", "unconnected").stdout
        assert f"client={lab.client_addr}:" in out
        out = lab.client(sys.executable, "-c", UDP_ASK, a, "8053", "connected").stdout
        assert "said=hello1" in out
    for k in lab.nodes:
        for a in lab.addresses + ["127.0.0.1"]:
            r = lab.fields(f"http://{a}:8080/", where=k)
            assert r["version"] == "1"
            if a != "127.0.0.1":
                assert r["client"].split(":")[0] == lab.addr(k), (k, a)
            out = lab.node_exec(k, sys.executable, "-c", UDP_ASK, a, "8053", "unconnected").stdout
            assert "said=hello1" in out, (k, a)
    lab.meshctl(1, "service", "update", "-d", "--publish-rm", "8000", "--publish-rm", "8053:8000/udp", "web")
    wait_for(lambda: lab.curl(f"http://{lab.addr(1)}:8080/", rc=None, m=2).returncode == 7, 30, "the port to be closed")


def test_host_mode(lab):
    """Only the nodes that run a task answer, and the port belongs to that task."""
    web = lab.create("--name", "web", "--replicas", "2", "-p", "published=8090,target=8000,mode=host",
                     "-p", "published=8091,target=8000,mode=host,protocol=udp", IMAGE, n=2)
    by_node = {lab.node_number(t): t for t in web}
    assert len(by_node) == 2
    lab.wait_published(8090, *by_node)
    for k, t in by_node.items():
        r = lab.fields(f"http://{lab.addr(k)}:8090/")
        assert t["Status"]["ContainerStatus"]["ContainerID"].startswith(r["host"])
        assert r["client"].split(":")[0] == lab.client_addr
        assert lab.fields("http://127.0.0.1:8090/", where=k)["host"] == r["host"]
        assert lab.fields(f"http://{lab.addr(k)}:8090/", where=k)["host"] == r["host"]
        out = lab.client(sys.executable, "-c", UDP_ASK, lab.addr(k), "8091", "connected").stdout
        assert f"client={lab.client_addr}:" in out
        ports = t["Status"]["PortStatus"]["Ports"]
        assert {(p["PublishedPort"], p["Protocol"], p["PublishMode"]) for p in ports} == {(8090, "tcp", "host"), (8091, "udp", "host")}
    rest = next(k for k in lab.nodes if k not in by_node)
    assert lab.curl(f"http://{lab.addr(rest)}:8090/", rc=None, m=2).returncode in (7, 28)


def test_port_without_a_number_gets_one(lab):
    lab.create("--name", "web", "-p", "8000", IMAGE)
    port = lab.get(1, "/services/web")["Endpoint"]["Ports"][0]["PublishedPort"]
    assert 30000 <= port <= 32767
    lab.wait_published(port)


# ---- drivers ----

def test_driver_is_said(lab):
    """What a node's driver is, why, and what it cannot: once in its log, and by node inspect."""
    for k in lab.nodes:
        said = lab.driver(k)
        assert re.match({"ebpf": "ebpf: ", "nft": "nft: as configured; cannot "}[lab.drivers[k - 1]], said), said
        log = lab.log(k)  # of all its daemons
        assert "libbpf:" not in log
        assert 1 <= log.count(f'data plane is up driver="{said}"') <= log.count("meshd is up")


def everywhere(lab):
    """web and ask, a task of each on each node; web published and on ask's network."""
    overlay(lab, "net")
    lab.web = lab.create("--name", "web", "--network", "net", "--mode", "global", "-p", "8080:8000", "-p", "8053:8000/udp", IMAGE, n=3)
    lab.ask = lab.create("--name", "ask", "--network", "net", "--mode", "global", "--stop-signal", "SIGKILL", IMAGE, "sleep", "100000", n=3)
    lab.wait_published(8080)


def test_all_directions(lab):
    """From a task, a node and a client to a task of every node."""
    everywhere(lab)
    for t in lab.ask:
        for other in lab.web + lab.ask:
            assert "1 packets received" in lab.exec(t, "ping", "-c", "1", "-W", "2", address(other, "net")).stdout
    for k in lab.nodes:
        for a in lab.addresses:
            assert len(hosts_of(lambda: lab.fields(f"http://{a}:8080/", where=k)["host"], 3)) == 3, (k, a)
        hosts = hosts_of(lambda: lab.fields("http://127.0.0.1:8080/", where=k)["host"], 3, tries=20)
        assert hosts  # a node may prefer its own
    for a in lab.addresses:
        assert len(hosts_of(lambda: lab.fields(f"http://{a}:8080/")["host"], 3)) == 3


def test_tasks_dial_published_ports(lab):
    """Of every node; of their own where it can, as it says."""
    everywhere(lab)
    beyond = "bring a task to a port of its own node that a task elsewhere on a network of both serves"
    for t in lab.ask:
        k = lab.node_number(t)
        for other in lab.nodes:
            if other == k and lab.cannot(beyond, k):
                continue
            assert len(hosts_of(lambda: get(lab, t, f"http://{lab.addr(other)}:8080/")["host"], 3)) == 3, (k, other)


KEEP = """
import socket, sys
host, socks = sys.argv[1], []
for kind, port, n in ((socket.SOCK_STREAM, 8080, int(sys.argv[2])), (socket.SOCK_DGRAM, 8053, int(sys.argv[3]))):
    for _ in range(n):
        s = socket.socket(socket.AF_INET, kind); s.settimeout(5); s.connect((host, port)); socks.append((s, kind))
def ask(s, kind, tries=5):
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); data = b""
    if kind == socket.SOCK_DGRAM:
        s.settimeout(1)
        try:
            data = s.recv(4096)
        except OSError:
            if tries == 1:
                raise
            return ask(s, kind, tries - 1)
    while kind == socket.SOCK_STREAM and (b"self=" not in data or not data.endswith(b"\\n")):
        part = s.recv(4096)
        assert part, "closed"
        data += part
    return data.split(b"host=")[1].split()[0].decode()
first = [ask(*s) for s in socks]
print("up", *set(first), flush=True)
for line in sys.stdin:
    for i, (s, kind) in enumerate(socks):
        try:
            now = ask(s, kind)
            if now != first[i]:
                print("moved", kind.name, first[i], now, flush=True)
            first[i] = now
        except (OSError, AssertionError) as e:
            print("lost", kind.name, first[i], type(e).__name__, flush=True)
    print("asked", flush=True)
"""


class Kept:
    """Connections of the client to a node's published ports, TCP and UDP, that stay open."""

    def __init__(self, lab, a, tcp=24, udp=12):
        self.p = lab.spawn(0, sys.executable, "-c", KEEP, a, str(tcp), str(udp), stdin=-1, stdout=-1)
        self.hosts = set(self.p.stdout.readline().split()[1:])

    def ask(self):
        """What is not as it was: [(moved or lost, kind, host, ...)]"""
        self.p.stdin.write("\n")
        self.p.stdin.flush()
        return [line.split() for line in iter(self.p.stdout.readline, "asked\n")]


def test_connections_keep_their_task(lab):
    """Through whatever becomes of the set and of the daemons; when a task goes, its datagrams go to another at once."""
    lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", "-p", "8053:8000/udp", "--stop-grace-period", "1s", "--restart-condition",
               "none", IMAGE, n=3)
    lab.wait_published(8080)
    kept = [Kept(lab, a) for a in lab.addresses]
    assert all(len(k.hosts) == 3 for k in kept)
    lab.meshctl(1, "service", "scale", "-d", "web=8")
    lab.wait_running("web", 8)
    for a in lab.addresses:
        assert len(hosts_of(lambda: lab.fields(f"http://{a}:8080/")["host"], 8, tries=300)) == 8
    assert [k.ask() for k in kept] == [[], [], []]
    for k in lab.nodes:
        lab.verb("kill", k)
        lab.verb("start", k)
        lab.wait_nodes()
    assert [k.ask() for k in kept] == [[], [], []]
    # Here is known which task ends: of those that hold connections, one of another node than n1.
    gone = next(t for t in lab.running("web") if t["Status"]["ContainerStatus"]["ContainerID"][:12] in kept[0].hosts and lab.node_number(t) != 1)
    host = gone["Status"]["ContainerStatus"]["ContainerID"][:12]
    knows = lambda k: gone["ID"] in lab.raw(k, "GET", "/metrics")[1].decode()
    for k in lab.nodes:
        wait_for(lambda: knows(k), 20, f"n{k}'s data plane")
    os.kill(gone["Status"]["ContainerStatus"]["PID"], signal.SIGKILL)
    for k in lab.nodes:
        wait_for(lambda: not knows(k), 20, f"n{k} to know")
    for a, k in zip(lab.addresses, kept):
        changed = k.ask()
        tcp, udp = ([c for c in changed if c[1] == kind] for kind in ("SOCK_STREAM", "SOCK_DGRAM"))
        assert tcp and all(c[0] == "lost" and c[2] == host for c in tcp), tcp
        # Where ebpf takes them in, a datagram flow that began within a minute of a change may still hang on the task that
        # had its slot before (bpf/lb.h), and move with that one.
        known = [c for c in udp if c[2] == host or lab.drivers[lab.addresses.index(a)] == "nft"]
        assert all(c[0] == "moved" for c in udp) and all(c[2] == host for c in known), udp


# Connection tracking forgets all, as it does what rested for its time.
UNTRACK = """
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
s.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 5, 1, 0, socket.AF_INET, 0, 0))
assert struct.unpack_from("=i", s.recv(4096), 16) == (0,)
"""


def test_datagrams_that_pause_keep_their_task(lab):
    """Longer than connection tracking remembers them, while the set changes."""
    lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", "-p", "8053:8000/udp", IMAGE, n=3)
    lab.wait_published(8080)
    kept = [Kept(lab, a, tcp=0, udp=24) for a in lab.addresses]
    lab.meshctl(1, "service", "scale", "-d", "web=8")
    lab.wait_running("web", 8)
    for a in lab.addresses:
        assert len(hosts_of(lambda: lab.fields(f"http://{a}:8080/")["host"], 8, tries=300)) == 8
    for k, driver in zip(lab.nodes, lab.drivers):
        if driver == "nft":
            lab.node_exec(k, sys.executable, "-c", UNTRACK)
    assert [k.ask() for k in kept] == [[], [], []]


def test_ended_connections_are_forgotten_soon(lab):
    """An nft node remembers for hours only what it passes on and is open."""
    lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", "-p", "8053:8000/udp", IMAGE, n=3)
    lab.wait_published(8080)
    kept = [Kept(lab, a) for a in lab.addresses]
    held = lambda k: lab.node_exec(k, "nft", "list", "map", "ip", "mesh_lb", "flows").stdout.count(" : 0x")
    for k, a, driver in zip(lab.nodes, lab.addresses, lab.drivers):
        before = held(k) if driver == "nft" else 0
        for _ in range(30):
            assert lab.fields(f"http://{a}:8080/")["version"] == "1"
        if driver == "nft":
            assert before > 0
            wait_for(lambda: held(k) == before, 5, f"n{k} to forget what ended")
    assert [k.ask() for k in kept] == [[], [], []]


# ---- labels and splits ----

def label(lab, *pairs):
    lab.meshctl(1, "service", "update", "-d", *[x for p in pairs for x in ("--label-add", p)], "web")


def seen_at(lab, a, n=12):
    """Who answers n connections at a node's address; None when one is not answered."""
    out = lab.client("sh", "-c", f"for i in $(seq {n}); do curl -sS -m 2 http://{a}:8080/ || echo failed; done", rc=None).stdout
    return None if "failed" in out else set(re.findall(r"host=(\S+)", out))


def test_labels(lab):
    """Local tasks, affinity, sources, addresses, direct return."""
    everywhere(lab)
    here = {lab.addr(lab.node_number(t)): t["Status"]["ContainerStatus"]["ContainerID"][:12] for t in lab.web}
    label(lab, "mesh.publish.local=prefer")
    for a in lab.addresses:
        wait_for(lambda: seen_at(lab, a) == {here[a]}, 10, f"{a} to serve by itself")
    label(lab, "mesh.publish.local=off", "mesh.affinity=client")
    for a in lab.addresses:
        wait_for(lambda: len(seen_at(lab, a, 20)) == 1, 10, f"{a} to give the client one task")
    label(lab, "mesh.affinity=none", "mesh.publish.return=direct")
    for a in lab.addresses:
        wait_for(lambda: len(seen_at(lab, a, 25)) == 3, 10, f"{a} to reach all, answered directly")
    label(lab, "mesh.publish.return=tunnel", "mesh.publish.sources=203.0.113.0/24")
    for a in lab.addresses:
        wait_for(lambda: lab.curl(f"http://{a}:8080/", rc=None, m=1).returncode == 28, 10, f"{a} to drop the client")
    label(lab, f"mesh.publish.sources=203.0.113.0/24,{lab.client_addr}", f"mesh.publish.addresses={lab.addr(1)}")
    wait_for(lambda: seen_at(lab, lab.addr(1)), 10, "n1 to let the client in")
    wait_for(lambda: lab.curl(f"http://{lab.addr(2)}:8080/", rc=None, m=1).returncode == 7, 10, "n2's address to refuse")
    lab.meshctl(1, "service", "update", "-d", "--label-rm", "mesh.publish.sources", "--label-rm", "mesh.publish.addresses", "web")
    for a in lab.addresses:
        wait_for(lambda: len(seen_at(lab, a, 25)) == 3, 10, f"{a} to be as before")


def test_split(lab):
    everywhere(lab)
    other = lab.create("--name", "other", "--network", "net", "-p", "8000", IMAGE)[0]["Status"]["ContainerStatus"]["ContainerID"][:12]
    inside = lambda: set(re.findall(r"host=(\S+)", lab.exec(lab.ask[0], "sh", "-c", "for i in $(seq 12); do timeout 4 wget -q -O - http://web:8000/;"
                                                              " done").stdout))
    lab.meshctl(1, "service", "split", "web=0", "other=1")
    for a in lab.addresses:
        wait_for(lambda: seen_at(lab, a) == {other}, 10, f"{a} to send everything there")
    wait_for(lambda: inside() == {other}, 10, "the virtual IP to go there")
    lab.meshctl(1, "service", "split", "--rm", "web")
    for a in lab.addresses:
        wait_for(lambda: other not in seen_at(lab, a) and len(seen_at(lab, a, 25)) == 3, 10, f"{a} to be as before")


# ---- the outside ----

SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("peer=%s\\n" % self.client_address[0]).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("0.0.0.0", 9000), H)
print("up", flush=True)
s.serve_forever()
"""


def test_tasks_reach_the_outside(lab):
    """With an address of their node; from an internal network they do not."""
    p = lab.spawn(0, sys.executable, "-c", SERVER, stdout=-1)
    assert p.stdout.readline() == "up\n"
    overlay(lab, "net")
    overlay(lab, "closed", "--internal")
    for t in sleeper(lab, "--network", "net", n=3):
        assert get(lab, t, f"http://{lab.client_addr}:9000/")["peer"] == lab.addr(lab.node_number(t))
    alone = sleeper(lab, name="alone")[0]  # on no network of ours
    assert get(lab, alone, f"http://{lab.client_addr}:9000/")["peer"] == lab.addr(lab.node_number(alone))
    inside = sleeper(lab, "--network", "closed", name="inside", n=2)
    for t in inside:
        assert fetch(lab, t, f"http://{lab.client_addr}:9000/", rc=None, seconds=1).returncode in (1, 143)
    lab.exec(inside[0], "ping", "-c", "1", "-W", "2", address(inside[1], "closed"))


# ---- names ----

DNS_SERVER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 53)); print("up", flush=True)
while True:
    q, who = s.recvfrom(2000)
    end = q.index(b"\\0", 12) + 5
    name = q[12:end - 4]
    if name.lower().startswith(b"\\x07outside") and q[end - 4:end - 2] == b"\\0\\1":
        s.sendto(q[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + q[12:end] + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x05\\0\\4\\x07\\x07\\x07\\x07", who)
    else:
        s.sendto(q[:2] + b"\\x81\\x83\\0\\1\\0\\0\\0\\0\\0\\0" + q[12:end], who)
"""


def resolver(lab):
    """A name server outside, which knows outside.* and that nothing else exists; the flags to use it."""
    p = lab.spawn(0, sys.executable, "-c", DNS_SERVER, stdout=-1)
    assert p.stdout.readline() == "up\n"
    return ["--dns", lab.client_addr, "--dns-search", "example.test"]


def test_names(lab):
    overlay(lab, "net")
    web = lab.create("--name", "web", "--replicas", "2", "--network", "name=net,alias=www", IMAGE, n=2)
    asker = sleeper(lab, "--network", "net")[0]
    v, each = vip(lab, "web", "net"), sorted(address(t, "net") for t in web)
    for name in ("web", "WEB", "wEb", "www", "web."):
        assert lookup(lab, asker, name)[0] == [v], name
    assert lookup(lab, asker, "tasks.web")[0] == each
    assert lookup(lab, asker, "Tasks.Web")[0] == each
    for t in web:
        c = t["Status"]["ContainerStatus"]["ContainerID"]
        for name in (f"web.{t['Slot']}.{t['ID']}", c[:12]):
            assert lookup(lab, asker, name)[0] == [address(t, "net")], name
    assert "name = web" in lab.exec(asker, "nslookup", v, "127.0.0.11").stdout
    assert re.search(r"name = web\.\d\.", lab.exec(asker, "nslookup", each[0], "127.0.0.11").stdout)
    assert lab.exec(asker, "ping", "-c", "1", "-W", "2", "web").returncode == 0
    # IPv6: the name is there, it has no such address
    assert "NXDOMAIN" not in lookup(lab, asker, "web", "aaaa")[1]


def test_names_of_a_scaled_and_removed_service_follow_at_once(lab):
    overlay(lab, "net")
    lab.create("--name", "web", "--replicas", "1", "--network", "net", IMAGE)
    asker = sleeper(lab, "--network", "net", *resolver(lab))[0]
    assert lookup(lab, asker, "tasks.web")[0]
    lab.meshctl(1, "service", "scale", "-d", "web=3")
    web = lab.wait_running("web", 3)
    wait_for(lambda: lookup(lab, asker, "tasks.web")[0] == sorted(address(t, "net") for t in web), 5, "three addresses")
    lab.meshctl(1, "service", "rm", "web")
    wait_for(lambda: lookup(lab, asker, "web")[0] == [], 3, "the name to be gone")
    wait_for(lambda: lookup(lab, asker, "tasks.web")[0] == [], 8, "the tasks' names to be gone")


DNS_ASK = """
import socket, sys, time
q = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + b"".join(bytes([len(x)]) + x.encode() for x in sys.argv[1].split(".")) + b"\\0\\0\\1\\0\\1"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); begin = time.monotonic()
s.sendto(q, ("127.0.0.11", 53)); a = s.recv(2000)
print(a[3] & 15, int.from_bytes(a[6:8], "big"), time.monotonic() - begin)
"""


def test_unknown_names_are_answered_before_the_asker_gives_up(lab):
    """Forwarded to the host's resolvers, which nobody reaches from here: an error within the 5 s of the C library."""
    overlay(lab, "net")
    asker = sleeper(lab, "--network", "net")[0]
    for name in ("nothing.invalid", "cli"):
        rcode, answers, seconds = lab.inside(asker, sys.executable, "-c", DNS_ASK, name).stdout.split()
        assert (rcode, answers) == (("0", "1") if name == "cli" else ("2", "0")) and float(seconds) < 4.9, (name, rcode, seconds)


def test_names_are_forwarded_to_the_services_resolver(lab):
    """--dns: whatever is not a name of the task's networks is asked there."""
    overlay(lab, "net")
    asker = sleeper(lab, "--network", "net", *resolver(lab))[0]
    assert lookup(lab, asker, "outside.example.test")[0] == ["7.7.7.7"]
    begin = time.monotonic()
    assert "NXDOMAIN" in lookup(lab, asker, "inside.example.test")[1]
    assert time.monotonic() - begin < 2
    assert "search example.test" in lab.exec(asker, "cat", "/etc/resolv.conf").stdout
    assert lookup(lab, asker, "cli")[0] == [vip(lab, "cli", "net")]


def test_names_while_the_daemon_is_away(lab):
    """A query asked meanwhile waits for the daemon instead of failing; traffic to known addresses goes on."""
    overlay(lab, "net")
    web = lab.create("--name", "web", "--network", "net", "--constraint", "node.hostname==n3", IMAGE)[0]
    asker = sleeper(lab, "--network", "net", "--constraint", "node.hostname==n2")[0]
    pid = asker["Status"]["ContainerStatus"]["PID"]
    lab.verb("kill", 2)
    inside = lambda *a, **kw: lab.run(["nsenter", "-t", str(pid), "-n", "-m", *a], **kw)
    assert "version=1" in inside("/bin/timeout", "4", "/bin/wget", "-q", "-O", "-", f"http://{address(web, 'net')}:8000/").stdout
    assert "version=1" in inside("/bin/timeout", "4", "/bin/wget", "-q", "-O", "-", f"http://{vip(lab, 'web', 'net')}:8000/").stdout
    asking = lab.spawn(None, "nsenter", "-t", str(pid), "-n", "-m", "/bin/nslookup", "web", "127.0.0.11", stdout=-1)
    lab.verb("start", 2)
    out, _ = asking.communicate(timeout=20)
    assert vip(lab, "web", "net") in out
