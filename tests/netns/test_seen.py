# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cluster shows of itself: counters that agree with what was done, live rates, packets on their way, findings.

    client .10 ──┬── n1 .11 (manager) ── web.1
                 ├── n2 .12 ──────────── web.2, ask
                 └── n3 .13
"""
import json
import os
import re
import subprocess
import time

import pytest

from conftest import each_plane
from meshlab import IMAGE, MESHCTL, MESHD, ROOT, wait_for

SAMPLE = re.compile(r'(\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def metrics(lab, k):
    """{(name, label, value, ...): number} of a node."""
    status, data = lab.raw(k, "GET", "/metrics")
    assert status == 200
    out = {}
    for line in data.decode().splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            out[(name, *sorted(LABEL.findall(labels or "")))] = float(value)
    return out


def total(lab, name, **labels):
    """The sum over all nodes of a metric's series that carry these labels."""
    want = set(labels.items())
    return sum(v for k in lab.nodes for key, v in metrics(lab, k).items() if key[0] == name and want <= set(key[1:]))


@pytest.fixture
def web(lab):
    """web.1 on n1, web.2 on n2, published on 8080; ask on n2, on the same network."""
    lab.meshctl(1, "network", "create", "-d", "overlay", "blue")
    lab.create("--name", "web", "--network", "blue", "--replicas", "2", "--constraint", "node.hostname!=n3", "-p", "8080:8000",
               IMAGE, n=2)
    lab.ask = lab.create("--name", "ask", "--network", "blue", "--constraint", "node.hostname==n2", "--stop-signal", "SIGKILL",
                         IMAGE, "sleep", "100000")[0]
    return lab


@each_plane
def test_metrics_agree_with_requests(web):
    """20 connections through each node's port and 10 to the service address: as many are counted, no more."""
    def conns(network):
        return total(web, "mesh_backend_connections_total", service="web", network=network)

    def both(name, **labels):
        return total(web, name, service="web", network="ingress", path="published", **labels)

    before = [conns("ingress"), conns("blue"), both("mesh_backend_bytes_total", direction="out")]
    packets = both("mesh_backend_packets_total", direction="in")
    opened = total(web, "mesh_backend_connect_seconds_count", service="web")
    for a in web.addresses:
        for _ in range(20):
            web.curl(f"http://{a}:8080/")
    for _ in range(10):
        web.exec(web.ask, "wget", "-q", "-O-", "http://web:8000/")
    assert conns("ingress") - before[0] == 60
    assert conns("blue") - before[1] == 10
    assert web.cannot("see handshakes") or total(web, "mesh_backend_connect_seconds_count", service="web") - opened == 60
    # Each has at least a SYN, an ACK, a request and a FIN in, and 100 bytes of answer out.
    assert 4 * 60 <= both("mesh_backend_packets_total", direction="in") - packets <= 20 * 60
    assert 100 * 60 <= both("mesh_backend_bytes_total", direction="out") - before[2] <= 3000 * 60
    assert total(web, "mesh_backend_packets_total", service="web", network="blue", path="network", direction="out") >= 40
    assert metrics(web, 1)[("mesh_tasks", ("state", "running"))] == 3
    assert metrics(web, 1)[("mesh_raft_leader",)] == 1 and ("mesh_raft_leader",) not in metrics(web, 2)


@each_plane
def test_resets_and_refusals_are_counted(web):
    """A task whose server went away: each connection is a failed one, and a reset by the task."""
    off = web.create("--name", "off", "--constraint", "node.hostname==n1", "-p", "8081:9", "--stop-signal", "SIGKILL", IMAGE,
                     "sh", "-c", "nc -l -p 9; exec sleep 100000")[0]
    web.exec(off, "sh", "-c", "sleep 2; nc 127.0.0.1 9 </dev/null")
    web.curl(f"http://{web.addr(3)}:8081/", rc=7)
    before = [total(web, f"mesh_backend_{x}_total", service="off", network="ingress") for x in ("resets", "connections_failed")]
    for _ in range(5):
        web.curl(f"http://{web.addr(3)}:8081/", rc=7)
    assert total(web, "mesh_backend_resets_total", service="off", network="ingress", by="task") == before[0] + 5
    assert web.cannot("see handshakes", 1) or (
        total(web, "mesh_backend_connections_failed_total", service="off", network="ingress") == before[1] + 5)
    web.meshctl(1, "service", "scale", "-d", "web=0")
    wait_for(lambda: not web.running("web"), 20, "no task")
    blue = web.get(1, "/networks/blue")["Id"]
    vip = next(v["Addr"].split("/")[0] for v in web.get(1, "/services/web")["Endpoint"]["VirtualIPs"] if v["NetworkID"] == blue)
    web.exec(web.ask, "nc", "-w", "2", vip, "8000", rc=1)
    assert total(web, "mesh_service_refused_total", service="web", network="blue") == 1


def spoof(lab, task):
    """Three datagrams to a peer with an address that is not the task's own."""
    send = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW);"
            "p = bytes([69,0,0,28,0,0,0,0,64,17,0,0,9,9,9,9]) + socket.inet_aton('%s') + bytes([0,9,0,9,0,8,0,0]);"
            "[s.sendto(p, ('%s', 9)) for _ in range(3)]")
    peer = next(a["Addresses"][0].split("/")[0] for a in lab.running("web")[0]["NetworksAttachments"]
                if a["Network"]["Spec"]["Name"] == "blue")
    lab.inside(task, "python3", "-c", send % (peer, peer))


@each_plane
def test_drops_have_reasons(web):
    before = total(web, "mesh_dropped_packets_total", reason="spoof")
    spoof(web, web.ask)
    wait_for(lambda: total(web, "mesh_dropped_packets_total", reason="spoof") == before + 3, 5, "three drops")


@each_plane
def test_top_shows_rates(web):
    """Requests in the background; top sums the nodes, names tasks and reasons, and names a node that is silent."""
    load = web.load(*[f"{a}:8080" for a in web.addresses])
    load.more(20)
    out = web.meshctl(1, "top", "--no-stream", "--interval", "2s", "--format", "json").stdout
    load.stop()
    rows = [json.loads(line) for line in out.splitlines()]
    service = next(r for r in rows if r["Kind"] == "service" and r["Service"] == "web" and r["Network"] == "ingress")
    tasks = [r for r in rows if r["Kind"] == "task" and r["Service"] == "web" and r["Network"] == "ingress"]
    assert float(service["Connections"]) > 1 and float(service["PacketsOut"]) > 4
    assert sorted(r["Node"] for r in tasks) == ["n1", "n2"] and {r["Task"] for r in tasks} == {"web.1", "web.2"}
    assert abs(sum(float(r["Connections"]) for r in tasks) - float(service["Connections"])) <= 1.5  # each is rounded
    table = web.meshctl(1, "top", "--no-stream", "--interval", "100ms", "--services").stdout
    assert re.search(r"SERVICE +NETWORK +TASK +NODE +CONN/S", table) and re.search(r"web +blue", table)
    assert "is not a swarm manager" in web.meshctl(2, "top", "--no-stream", rc=1).stderr
    web.verb("stop", 3)
    assert "node n3: the node is not connected" in web.meshctl(1, "top", "--no-stream").stderr


class Trace:
    """meshctl trace at work, once every node watches."""

    def __init__(self, lab, *args, nodes=3):
        self.p = subprocess.Popen([MESHCTL, "trace", "--format", "json", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=dict(lab.env, DOCKER_HOST=f"unix://{lab.sock(1)}"))
        lab.processes.append(self.p)
        for _ in range(nodes):
            line = self.p.stderr.readline()
            assert line.startswith("watching on "), line

    def stop(self, wait=1.0):
        """The events, after all had the time to arrive."""
        time.sleep(wait)
        self.p.terminate()
        out, _ = self.p.communicate(timeout=10)
        return [json.loads(line) for line in out.splitlines()]


def steps(events):
    return [(e["Hostname"], e["Event"]["Hook"], e["Event"]["Verdict"]) for e in events]


def test_trace_shows_the_path_over_two_nodes(web):
    """A connection from outside to n3, which has no task: n3's uplink, the tunnel, the task's node, and back."""
    t = Trace(web, "--from", web.client_addr, "--to", f"{web.addr(3)}:8080")
    web.curl(f"http://{web.addr(3)}:8080/")
    events = t.stop()
    syn = next(e for e in events if e["Event"]["Flags"] == "SYN" and e["Event"]["Hook"] == "uplink")
    assert syn["Hostname"] == "n3" and syn["Event"]["Verdict"] == "tunnel" and re.match(r"web\.[12]$", syn["Event"]["Target"])
    at = syn["Event"]["Peer"]
    assert at in ("n1", "n2")
    arrived = next(e for e in events if e["Event"]["Flags"] == "SYN" and e["Event"]["Hook"] == "tunnel")
    assert arrived["Hostname"] == at and arrived["Event"]["Verdict"] == "task" and arrived["Event"]["Peer"] == "n3"
    assert arrived["Event"]["NewTo"].endswith(":8000") and "flow_new" in arrived["Event"]["Notes"]
    assert arrived["Event"]["From"] == syn["Event"]["From"] and arrived["Event"]["Time"] > syn["Event"]["Time"]
    way = steps([e for e in events if "SYN" in e["Event"]["Flags"]])
    assert way == [("n3", "uplink", "tunnel"), (at, "tunnel", "task"), (at, "task", "tunnel"), ("n3", "tunnel", "out")]
    assert [e["Event"]["Time"] for e in events] == sorted(e["Event"]["Time"] for e in events)


def test_trace_of_a_service_address(web):
    """From a task to a VIP: the socket is translated, then packets go between the tasks. Others' traffic is not shown."""
    t = Trace(web, "--from", "ask.1", "--to", "web")
    web.curl(f"http://{web.addr(1)}:8080/")
    web.exec(web.ask, "wget", "-q", "-O-", "http://web:8000/")
    events = t.stop()
    first = events[0]["Event"]
    assert first["Hook"] == "socket" and first["Verdict"] == "connect" and first["FromName"] == "ask.1" and first["ToName"] == "web"
    assert re.match(r"web\.[12]$", first["Target"]) and first["NewTo"].endswith(":8000")
    assert not [e for e in events if web.client_addr in e["Event"]["From"] + e["Event"]["To"]]
    assert [e for e in events if e["Event"]["Hook"] == "task" and e["Event"]["FromName"] == "ask.1"]


def test_trace_shows_drops_with_reason(web):
    t = Trace(web, "--drops")
    spoof(web, web.ask)
    events = t.stop()
    drop = next(e["Event"] for e in events if e["Event"]["Reason"] == "spoof")
    assert drop["Verdict"] == "drop" and drop["Protocol"] == "udp" and drop["Hook"] == "task" and drop["From"] == "9.9.9.9:9"
    assert all(e["Event"]["Verdict"] in ("drop", "refuse") for e in events)
    out = web.meshctl(1, "drops", "--format", "json").stdout
    assert [r for r in map(json.loads, out.splitlines()) if r["Node"] == "n2" and r["Reason"] == "spoof" and int(r["Packets"])]


def test_trace_counts_what_it_cannot_show(web):
    """Datagrams between two tasks of n2 pass one hook, once each; the client reads only after the last: each is shown or lost."""
    there = next(t for t in web.running("web") if web.node_number(t) == 2)
    addr = next(a["Addresses"][0].split("/")[0] for a in there["NetworksAttachments"] if a["Network"]["Spec"]["Name"] == "blue")
    t = Trace(web, "--from", "ask.1", "--to", f"{addr}:9", "-p", "udp")
    n = 50000
    web.inside(web.ask, "python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
               f"[s.sendto(b'x', ('{addr}', 9)) for _ in range({n})]")
    shown, lost = 0, {}
    while shown + sum(lost.values()) < n:
        e = json.loads(t.p.stdout.readline())["Event"]
        if e["Verdict"] == "lost":
            lost[e["Reason"]] = lost.get(e["Reason"], 0) + e["Lost"]
        else:
            shown += 1
    assert shown + sum(lost.values()) == n and shown > 100 and lost, (shown, lost)
    assert set(lost) <= {"ring", "rate", "connection", "merge", "client"}
    t.p.kill()


def test_trace_refuses_what_it_does_not_know(web):
    assert "is no address, service, node or task" in web.meshctl(1, "trace", "--to", "nobody", rc=1).stderr
    assert "is no port" in web.meshctl(1, "trace", "--to", "web:x", rc=1).stderr
    assert "must be tcp or udp" in web.meshctl(1, "trace", "-p", "sctp", rc=1).stderr
    assert "not a swarm manager" in web.meshctl(2, "trace", rc=1).stderr


# --- the doctor

def findings(lab, rc=1):
    out = lab.meshctl(1, "doctor", "--format", "json", rc=rc).stdout
    return [json.loads(line) for line in out.splitlines()]


def wait_data_planes(lab):
    wait_for(lambda: all("data plane is up" in lab.log(k) for k in lab.nodes), 30, "every data plane")


def test_doctor_finds_nothing(lab):
    wait_data_planes(lab)
    got = findings(lab, rc=0)
    assert [f["Node"] for f in got if f["Severity"] == "ok"] == ["n1", "n2", "n3"], got
    full = json.loads(lab.meshctl(1, "doctor", "--full").stdout)
    assert full["Well"] and all(p["Tunnel"] == "ok" and p["SizeMax"] == p["SizeTried"] == 1500 for r in full["Reports"] for p in r["Peers"])
    assert len(full["Reports"]) == 3 and all(len(r["Peers"]) == 2 for r in full["Reports"])


def test_doctor_names_a_firewall_rule(lab):
    """Where the tunnel's packets leave n2: whichever way its data plane takes them in, they go out here."""
    wait_data_planes(lab)
    lab.node_exec(2, "nft", "add table netdev fw; add chain netdev fw out { type filter hook egress device eth0 priority 0; };"
                  "add rule netdev fw out udp dport 4789 drop")
    try:
        got = [f for f in findings(lab) if f["Severity"] == "error"]
    finally:
        lab.node_exec(2, "nft", "delete table netdev fw")
    assert sorted((f["Check"], *sorted((f["Node"], f["Peer"]))) for f in got) == [("tunnel", "n1", "n2"), ("tunnel", "n2", "n3")]
    assert all("on n2 table netdev fw, chain out drops it: udp dport 4789 drop" in f["Text"] for f in got)
    assert [f for f in findings(lab, rc=0) if f["Severity"] == "error"] == []


def test_doctor_finds_a_black_hole(lab):
    """The switch's port of n3 takes smaller packets than n3's link promises, and drops larger ones without a word."""
    wait_data_planes(lab)
    port = ["ip", "-n", f"mesh-{lab.name}-sw", "link", "set", "dev", "n3", "mtu"]
    lab.run([*port, "1300"])
    try:
        got = [f for f in findings(lab) if f["Severity"] == "error"]
    finally:
        lab.run([*port, "1500"])
    assert {(f["Check"], f["Node"], f["Peer"]) for f in got} == {("mtu", a, b) for a, b in
                                                               (("n1", "n3"), ("n3", "n1"), ("n2", "n3"), ("n3", "n2"))}
    size = int(re.search(r"packets of more than (\d+) do not arrive", got[0]["Text"])[1])
    assert 1300 <= size <= 1304  # a bridge leaves room for a VLAN tag
    assert f"mtu {size}" in got[0]["Mend"]


def test_doctor_finds_a_silent_node(fresh_lab):
    lab = fresh_lab(nodes=2, images=False)
    wait_for(lambda: lab.meshctl(1, "doctor", rc=None).returncode == 0, 30, "a healthy cluster")
    lab.verb("stop", 2)
    got = [f for f in findings(lab) if f["Severity"] == "error"]
    assert [(f["Check"], f["Node"]) for f in got] == [("node", "n2")] and "not connected" in got[0]["Text"]
    assert "WARNING" in lab.meshctl(1, "doctor", rc=1).stdout or "ERROR" in lab.meshctl(1, "doctor", rc=1).stdout


def test_the_board_asks_for_what_there_is(web):
    """Every metric of docs/grafana.json exists, and every label it sums by."""
    board = json.load(open(os.path.join(ROOT, "docs", "grafana.json")))
    there = {}
    for name, *labels in metrics(web, 1):
        there.setdefault(name, set()).update(k for k, _ in labels)
    for target in (t for p in board["panels"] for t in p["targets"]):
        names = re.findall(r"mesh_\w+", target["expr"])
        assert names and all(n in there for n in names), target["expr"]
        for by in re.findall(r"by \(([^)]*)\)", target["expr"]):
            assert {b.strip() for b in by.split(",")} <= there[names[0]] | {"instance"}, target["expr"]


def test_metrics_listener(fresh_lab):
    """--metrics-addr: the same text and health over TCP, and nothing else."""
    lab = fresh_lab(nodes=1)
    lab.create("--name", "web", "-p", "8080:8000", IMAGE)
    lab.verb("stop", 1)
    wrapper = f"{lab.config}/meshd"
    with open(wrapper, "w") as f:
        f.write(f'#!/bin/sh\nexec {MESHD} --metrics-addr {lab.addr(1)}:9323 "$@"\n')
    subprocess.run(["chmod", "755", wrapper], check=True)
    lab.env["MESHD"] = wrapper
    lab.verb("start", 1)
    base = f"http://{lab.addr(1)}:9323"
    wait_for(lambda: lab.curl(f"{base}/health", rc=None).returncode == 0, 20, "the listener")
    wait_for(lambda: lab.curl(f"{base}/health/8080", rc=None, args=["-f"]).returncode == 0, 20, "the port's health")
    assert "mesh_dropped_packets_total{" in lab.curl(f"{base}/metrics").stdout
    lab.curl(f"{base}/health/8099", rc=22, args=["-f"])
    assert "only /metrics" in lab.curl(f"{base}/containers/json").stdout
    lab.meshctl(1, "service", "scale", "-d", "web=0")
    wait_for(lambda: lab.curl(f"{base}/health/8080", rc=None, args=["-f"]).returncode == 22, 20, "no health without a task")
