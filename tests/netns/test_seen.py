# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cluster shows of itself: counters that agree with what was done, live rates, packets on their way, findings.

    client .10 ──┬── n1 .11 (manager) ── web.1
                 ├── n2 .12 ──────────── web.2, ask
                 └── n3 .13
"""
import json
import re
import subprocess

import pytest

from meshlab import IMAGE, wait_for

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
    assert total(web, "mesh_backend_connect_seconds_count", service="web") - opened == 60
    # Each has at least a SYN, an ACK, a request and a FIN in, and 100 bytes of answer out.
    assert 4 * 60 <= both("mesh_backend_packets_total", direction="in") - packets <= 20 * 60
    assert 100 * 60 <= both("mesh_backend_bytes_total", direction="out") - before[2] <= 3000 * 60
    assert total(web, "mesh_backend_packets_total", service="web", network="blue", path="network", direction="out") >= 40
    assert metrics(web, 1)[("mesh_tasks", ("state", "running"))] == 3
    assert metrics(web, 1)[("mesh_raft_leader",)] == 1 and ("mesh_raft_leader",) not in metrics(web, 2)


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
    assert total(web, "mesh_backend_connections_failed_total", service="off", network="ingress") == before[1] + 5
    web.meshctl(1, "service", "scale", "-d", "web=0")
    wait_for(lambda: not web.running("web"), 20, "no task")
    blue = web.get(1, "/networks/blue")["Id"]
    vip = next(v["Addr"].split("/")[0] for v in web.get(1, "/services/web")["Endpoint"]["VirtualIPs"] if v["NetworkID"] == blue)
    web.exec(web.ask, "nc", "-w", "2", vip, "8000", rc=1)
    assert total(web, "mesh_service_refused_total", service="web", network="blue") == 1


def test_drops_have_reasons(web):
    """A task that sends with an address that is not its own."""
    before = total(web, "mesh_dropped_packets_total", reason="spoof")
    send = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW);"
            "p = bytes([69,0,0,28,0,0,0,0,64,17,0,0,9,9,9,9]) + socket.inet_aton('%s') + bytes([0,9,0,9,0,8,0,0]);"
            "[s.sendto(p, ('%s', 9)) for _ in range(3)]")
    peer = next(a["Addresses"][0].split("/")[0] for a in web.running("web")[0]["NetworksAttachments"]
                if a["Network"]["Spec"]["Name"] == "blue")
    web.inside(web.ask, "python3", "-c", send % (peer, peer))
    wait_for(lambda: total(web, "mesh_dropped_packets_total", reason="spoof") == before + 3, 5, "three drops")


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
    assert abs(sum(float(r["Connections"]) for r in tasks) - float(service["Connections"])) < 1
    table = web.meshctl(1, "top", "--no-stream", "--interval", "100ms", "--services").stdout
    assert re.search(r"SERVICE +NETWORK +TASK +NODE +CONN/S", table) and re.search(r"web +blue", table)
    assert "is not a swarm manager" in web.meshctl(2, "top", "--no-stream", rc=1).stderr
    web.verb("stop", 3)
    assert "node n3: the node is not connected" in web.meshctl(1, "top", "--no-stream").stderr


def test_metrics_listener(fresh_lab):
    """--metrics-addr: the same text and health over TCP, and nothing else."""
    lab = fresh_lab(nodes=1)
    lab.create("--name", "web", "-p", "8080:8000", IMAGE)
    from meshlab import MESHD
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
