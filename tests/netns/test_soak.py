# SPDX-License-Identifier: GPL-2.0-or-later
"""A soak: random changes under load, and afterwards every node is as it was. 20 seconds in make check, `make soak SECONDS=600`.

    client ── loadgen ──► n1 n2 n3 :8100 ──► base, scaled and updated
    beside it: services, networks and published ports come and go, their tasks are killed, daemons are killed and started

No request over TCP to base may fail.
Daemons are killed while base rests: a drain does not wait for a node whose daemon is away, and what that node sends meanwhile to a
task that ends is lost until it is back. What a node is made of is counted before and after: entries of BPF maps and nft sets,
links, addresses, network namespaces, mounts, and the daemon's files and memory.
"""
import json
import os
import random
import re
import signal
import time

import pytest

from conftest import LABS, new_lab
from meshlab import IMAGE, IMAGE2, wait_for

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
# In make check the same changes each time; a soak tries others.
SEED = int(os.environ.get("SOAK_SEED") or (random.randrange(1 << 30) if "SOAK_SECONDS" in os.environ else 463426100))
MAPS = ["ifaces", "endpoints", "vips", "ports", "host_addrs", "nodes", "subnets", "ranges"]


@pytest.fixture(params=["ebpf", "nft"])
def lab(machine, request):
    lab = new_lab("s" + request.param[0], plane=request.param)
    lab.driver = request.param
    yield lab
    LABS.remove(lab)
    lab.down()


def map_entries(lab, k, name):
    pins = f"/run/mesh/{lab.name}/n{k}/bpf"
    layout = next(m for m in os.listdir(pins) if re.fullmatch(r"maps[\d_]+", m))
    out = lab.run(["bpftool", "-j", "map", "dump", "pinned", f"{pins}/{layout}/{name}"]).stdout
    return len(json.loads(out))


def count(lab, k):
    """What node k consists of."""
    pid, ruleset = lab.pid(k), json.loads(lab.node_exec(k, "nft", "-j", "list", "ruleset").stdout)["nftables"]
    c = {"links": len(json.loads(lab.node_exec(k, "ip", "-j", "link").stdout)),
         "addresses": sum(len(l["addr_info"]) for l in json.loads(lab.node_exec(k, "ip", "-j", "addr").stdout)),
         "routes": len(json.loads(lab.node_exec(k, "ip", "-j", "route").stdout)),
         "rules": len(json.loads(lab.node_exec(k, "ip", "-j", "rule").stdout)),
         "nft": len(ruleset),
         "tasks": len([d for d in os.listdir(lab.state(k) + "/tasks")]) if os.path.isdir(lab.state(k) + "/tasks") else 0,
         "mounts": sum(lab.state(k) in line or f"/run/mesh/{lab.name}/n{k}/" in line for line in open("/proc/mounts")),
         "files": len(os.listdir(f"/proc/{pid}/fd"))}
    # What ends by time (connections of a client that went without a word, for hours) is no size to return to.
    c.update({f"nft {o[kind]['name']}": len(o[kind].get("elem", [])) for o in ruleset for kind in ("set", "map")
              if kind in o and "timeout" not in o[kind].get("flags", [])})
    if lab.driver == "ebpf":
        c.update({f"map {m}": map_entries(lab, k, m) for m in MAPS})
    return c


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


class Chaos:
    """Random things that users, crashes and time do; each leaves the cluster in a state that later ones cope with."""

    def __init__(self, lab, rnd):
        self.lab, self.rnd, self.n = lab, rnd, 0
        self.services, self.networks, self.version = {}, [], 1
        self.done = []

    def ctl(self, *args):
        return self.lab.meshctl(1, *args, rc=None, timeout=90)

    def network(self):
        name = f"x{self.n}"
        if self.ctl("network", "create", "-d", "overlay", name).returncode == 0:
            self.networks.append(name)

    def create(self):
        name, port = f"s{self.n}", 8200 + self.n % 300
        nets = [a for n in self.rnd.sample(self.networks, min(2, len(self.networks))) for a in ("--network", n)]
        if self.ctl("service", "create", "-d", "--name", name, "--replicas", str(self.rnd.randint(1, 4)), "--stop-grace-period", "1s",
                    "--restart-delay", "0s", *nets, "-p", f"{port}:8000", IMAGE).returncode == 0:
            self.services[name] = port

    def some(self):
        return self.rnd.choice(sorted(self.services)) if self.services else None

    def remove(self):
        name = self.some()
        if name:
            self.ctl("service", "rm", name)
            del self.services[name]

    def scale(self):
        if self.some():
            self.ctl("service", "scale", "-d", f"{self.some()}={self.rnd.randint(0, 5)}")

    def publish(self):
        name = self.some()
        if name:
            self.ctl("service", "update", "-d", "--publish-rm", "8000", "--publish-add", f"{8600 + self.n % 300}:8000", name)

    def forget_network(self):
        if self.networks and self.ctl("network", "rm", self.networks[0]).returncode == 0:
            self.networks.pop(0)

    def kill_task(self):
        try:
            tasks = [t for name in self.services for t in self.lab.running(name)]
        except (AssertionError, OSError):
            return
        if tasks:
            try:
                os.kill(self.rnd.choice(tasks)["Status"]["ContainerStatus"]["PID"], signal.SIGKILL)
            except (ProcessLookupError, KeyError):
                pass

    def base_rests(self):
        """No change of base is under way: what ends meanwhile does not wait for a node whose daemon is away."""
        spec, tasks = self.lab.get(1, "/services/base")["Spec"], self.lab.get(1, "/_mesh/services/base")["Tasks"]
        live = [t for t in tasks if t["State"] not in ("shutdown", "failed", "complete", "remove", "rejected", "orphaned")]
        image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
        now = [t for t in self.lab.tasks("base") if t["Status"]["State"] == "running"]
        assert len(live) == len(now) == spec["Mode"]["Replicated"]["Replicas"], (live, len(now), self.done[-10:])
        assert all(t["Known"] and t["DesiredState"] == "running" for t in live), (live, self.done[-10:])
        return all(t["Spec"]["ContainerSpec"]["Image"].split("@")[0] == image.split("@")[0] for t in now)

    def kill_daemon(self):
        k = self.rnd.choice(self.lab.nodes)
        wait_for(self.base_rests, 60, "changes of base to be through")
        size = len(self.lab.log(k))
        self.lab.verb("kill", k)
        self.lab.verb("start", k)
        self.lab.wait_nodes(timeout=60)
        wait_for(lambda: "taken over from before" in self.lab.log(k)[size:], 30, f"n{k} to have taken over")

    def scale_base(self):
        self.ctl("service", "scale", "-d", f"base={self.rnd.randint(2, 6)}")

    def update_base(self):
        self.version = 3 - self.version
        self.ctl("service", "update", "-q", "-d", "--image", IMAGE if self.version == 1 else IMAGE2, "base")

    def step(self):
        self.n += 1
        what = self.rnd.choice([self.network, self.create, self.create, self.remove, self.scale, self.publish, self.forget_network,
                                self.kill_task, self.kill_task, self.kill_daemon, self.scale_base, self.update_base])
        self.done.append(what.__name__)
        what()


def test_soak(lab):
    rnd = random.Random(SEED)
    lab.create("--name", "base", "--replicas", "4", "-p", "8100:8000", "-p", "8100:8000/udp", "--stop-grace-period", "10s",
               "--restart-delay", "0s", IMAGE, n=4)
    wait_for(lambda: all(t["Known"] for t in lab.get(1, "/_mesh/services/base")["Tasks"]), 30, "base to be known everywhere")
    # A daemon that was started again is what all are at the end.
    for k in lab.nodes:
        lab.verb("kill", k)
        lab.verb("start", k)
        wait_for(lambda: "taken over from before" in lab.log(k), 30, f"n{k} to have taken over")
    lab.wait_nodes()
    chaos = Chaos(lab, rnd)
    lab.meshctl(1, "service", "scale", "-d", "base=4")
    lab.wait_running("base", 4, 60)
    before = {k: wait_for(lambda: count(lab, k), 20, f"n{k} to be counted") for k in lab.nodes}
    memory = {k: (lab.pid(k), rss_kb(lab.pid(k))) for k in lab.nodes}
    mix = ["new:40", "new:5:200", "keep:30:8:3000", "udp:100"]
    load = lab.loadgen(mix, [f"{lab.addr(k)}:8100" for k in lab.nodes])
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        chaos.step()
    print(f"SOAK_SEED={SEED} steps={len(chaos.done)}: {' '.join(chaos.done[-200:])}")
    result = load.stop(100)
    print(" ".join(f"{c['class']}={c['sent'] - c['ok']}/{c['sent']}" for c in result["classes"]), "lost")
    for name in list(chaos.services):
        lab.raw(1, "DELETE", f"/services/{name}")
    lab.meshctl(1, "service", "update", "-q", "-d", "--image", IMAGE, "base")
    lab.meshctl(1, "service", "scale", "-d", "base=4")
    wait_for(lambda: {t["ServiceID"] for t in lab.tasks()} == {lab.get(1, "/services/base")["ID"]}, 120, "the other services' tasks to be gone")
    for name in chaos.networks:
        wait_for(lambda: lab.raw(1, "DELETE", f"/networks/{name}")[0] in (204, 404), 30, f"network {name} to go")
    lab.wait_running("base", 4, 120)
    # Where base's tasks are may differ: each has links here, a route, and an endpoint without a network.
    placed = ["map ifaces", "map endpoints", "links", "routes", "mounts", *(key for key in before[1] if key.startswith("nft"))]
    spread = lambda c: {key: v for key, v in c.items() if key not in ("tasks", "files", *placed)}

    def settled():
        now = {k: count(lab, k) for k in lab.nodes}
        for k in lab.nodes:
            assert spread(now[k]) == spread(before[k]), (k, now[k], before[k])
        for key in placed:
            assert sum(now[k].get(key, 0) for k in lab.nodes) == sum(before[k].get(key, 0) for k in lab.nodes), (key, now, before)
        for k in lab.nodes:
            assert now[k]["files"] <= before[k]["files"] + 12, (k, now[k], before[k])
        return True

    wait_for(settled, 60, f"the nodes to be as they were before SOAK_SEED={SEED}", every=1)
    for k in lab.nodes:
        grown = rss_kb(lab.pid(k)) - memory[k][1]
        assert grown < 24576 + 40 * SECONDS, f"n{k}: resident memory grew by {grown} KB"
    # Datagrams that are in a task's socket while it exits are lost.
    lost = [f for f in result["failures"] if not f["class"].startswith("udp")]
    assert lost == [], (SEED, [str(f) for f in lost[:20]])
    assert len(result["failures"]) < 0.01 * sum(c["sent"] for c in result["classes"]), (SEED, len(result["failures"]))
