#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A task dies, starts, drains: how long until the last node has it in force.

Lab: three real daemons; in force = the table of the service in the kernel of the last of them has been switched
(bench/inforce watches the mapped tables of all three). Simulated: one real manager and NODES agents in one process
(bench/agents) over real connections; in force = the last has read the delta and acknowledges it.

A death is counted from kill -9 of the process (simulated: from the agent's report), a start from when the task listens
(simulated: from the report), a drain from the request that asks for it.
"""
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import BUILD, Lab, machine, table, until, write_json  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "30"))
NODES = int(os.environ.get("NODES", "200"))
# Endpoint change to rules in the kernel, 100 nodes, kube-proxy with nftables (kubernetes issue 124272); and moby's
# defaultGossipConvergeDelay, slept on every stop of a task.
PEERS = [("kube-proxy, 100 nodes", "1500", "6800"), ("Swarm, each drain", "2000", "2000")]


class Lines:
    """A process that speaks in lines, each kept; find() waits for one."""

    def __init__(self, argv, **kw):
        self.p = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, **kw)
        self.lines, self.more = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.stdout:
            with self.more:
                self.lines.append(line.split())
                self.more.notify_all()

    def mark(self):
        return len(self.lines)

    def find(self, match, start=0, timeout=60):
        end = time.monotonic() + timeout
        with self.more:
            while True:
                for words in self.lines[start:]:
                    if match(words):
                        return words
                start = len(self.lines)
                if self.p.poll() is not None or not self.more.wait(max(0, end - time.monotonic())):
                    raise RuntimeError(f"{self.p.args[0]}: nothing came")

    def close(self):
        self.p.kill()
        self.p.wait()


def spec(replicas, constraints=()):
    return {"Name": "web", "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {"ContainerSpec": {"Image": "mesh-demo:1"},
                             "RestartPolicy": {"Condition": "any", "Delay": 0},
                             "Placement": {"Constraints": list(constraints)}},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "PublishedPort": 8080, "TargetPort": 8000}]}}


def tasks(mgr, state="running"):
    return [t for t in mgr.call("GET", "/tasks?filters=%7B%22desired-state%22:%5B%22running%22%5D%7D")
            if t["Status"]["State"] == state]


def scale(mgr, replicas):
    s = mgr.call("GET", "/services/web")
    mgr.call("POST", f"/services/web/update?version={s['Version']['Index']}", {**s["Spec"], "Mode": {"Replicated": {"Replicas": replicas}}})


def simulated():
    """ms from said to all, for each kind of event."""
    out = {"dies": [], "starts": [], "drains": []}
    with Lab("conv", nodes=1) as lab:
        mgr = lab.nodes[0]
        token = mgr.call("GET", "/swarm")["JoinTokens"]["Worker"]
        agents = Lines(["nsenter", f"--net=/run/netns/mesh-{lab.name}-client", os.path.join(BUILD, "bench/agents"), f"{mgr.address}:2377",
                        token, str(NODES)], stdin=subprocess.PIPE)
        try:
            agents.find(lambda w: w[0] == "ready", timeout=180)
            mgr.call("POST", "/services/create", spec(NODES // 4, ["node.role==worker"]))
            until(lambda: len(tasks(mgr)) == NODES // 4, 120, "tasks")
            time.sleep(1)
            for _ in range(ROUNDS):
                at = agents.mark()
                agents.p.stdin.write("fail\n")
                agents.p.stdin.flush()
                died = agents.find(lambda w: w[0] == "said" and w[2] == "failed", at)
                gone = agents.find(lambda w: w[0] == "all" and w[1] == died[1] and w[2] in ("gone", "draining"), at)
                born = agents.find(lambda w: w[0] == "said" and w[2] == "serving", at)
                known = agents.find(lambda w: w[0] == "all" and w[1:3] == [born[1], "serving"], at)
                out["dies"].append((int(gone[3]) - int(died[3])) / 1e6)
                out["starts"].append((int(known[3]) - int(born[3])) / 1e6)
            for i in range(ROUNDS):
                at, asked = agents.mark(), time.monotonic_ns()
                scale(mgr, NODES // 4 - 1 - i)
                drained = agents.find(lambda w: w[0] == "all" and w[2] == "draining", at)
                out["drains"].append((int(drained[3]) - asked) / 1e6)
                until(lambda: len(tasks(mgr)) == NODES // 4 - 1 - i, 60, "scale")
        finally:
            agents.close()
    return out


def percentiles(v):
    v = sorted(v)
    return [f"{statistics.median(v):.1f}", f"{v[min(len(v) - 1, int(len(v) * 0.99))]:.1f}"]


def listening_ns(pid, port=8000):
    """When a socket of this process's network namespace listens on the port."""
    want = f":{port:04X}"
    while True:
        with open(f"/proc/{pid}/net/tcp") as f:
            if any(l[1].endswith(want) and l[3] == "0A" for l in map(str.split, f)):
                return time.monotonic_ns()
        time.sleep(0.0002)


def last_of(watch, at, nodes=3):
    """The moment at which the last of the nodes switched its table, of the first switch of each since at."""
    seen = [watch.find(lambda w, n=n: w[0] == "node" and int(w[1]) == n, at) for n in range(nodes)]
    return max(int(w[3]) for w in seen)


def pin_of(node):
    d = f"/proc/{node.pid()}/root{os.path.splitext(node.socket)[0]}/bpf"
    for root, _, files in os.walk(d):
        if "services" in files:
            return os.path.join(root, "services")
    raise RuntimeError(f"{d}: no map of services")


def quiet(watch, seconds=0.3):
    at = watch.mark()
    while True:
        time.sleep(seconds)
        if watch.mark() == at:
            return at
        at = watch.mark()


def in_lab():
    """ms until the last of three kernels, for each kind of event. New tasks listen half a second after they run."""
    out = {"dies": [], "starts": [], "drains": []}
    with Lab("conv") as lab:
        mgr = lab.nodes[0]
        s = spec(4)
        s["TaskTemplate"]["ContainerSpec"]["Env"] = ["LISTEN_DELAY_MS=500"]
        mgr.call("POST", "/services/create", s)
        until(lambda: len(tasks(mgr)) == 4, 60, "tasks")
        watch = Lines([os.path.join(BUILD, "bench/inforce"), *map(pin_of, lab.nodes)])
        try:
            watch.find(lambda w: w[0] == "ready")
            for _ in range(ROUNDS):
                at = quiet(watch)
                old = {t["ID"]: t for t in tasks(mgr)}
                victim = next(iter(old.values()))
                t0 = time.monotonic_ns()
                os.kill(victim["Status"]["ContainerStatus"]["PID"], 9)
                out["dies"].append((last_of(watch, at) - t0) / 1e6)
                at = watch.mark()
                new = until(lambda: [t for t in tasks(mgr) if t["ID"] not in old and t["Status"].get("ContainerStatus", {}).get("PID")], 30, "start")
                t0 = listening_ns(new[0]["Status"]["ContainerStatus"]["PID"])
                out["starts"].append((last_of(watch, at) - t0) / 1e6)
            for i in range(ROUNDS):
                at, t0 = quiet(watch), time.monotonic_ns()
                scale(mgr, 3 + i % 2)
                (out["drains"] if i % 2 == 0 else []).append((last_of(watch, at) - t0) / 1e6)
        finally:
            watch.close()
    return out


def main():
    only = sys.argv[1:] or ["lab", "simulated"]
    runs = {}
    if "lab" in only:
        runs["3 nodes, kernels"] = in_lab()
    if "simulated" in only:
        runs[f"{NODES} simulated nodes"] = simulated()
    m = machine()
    print(f"{m['cpu']}, {m['cores']} CPUs, Linux {m['kernel']}, load {m['load']:.1f}; ms until the last node has it in force\n")
    rows = [[f"{where}: a task {what}", *percentiles(v), str(len(v))] for where, r in runs.items() for what, v in r.items()]
    table(rows + [[n, p50, p99, "-"] for n, p50, p99 in PEERS], ["", "p50", "p99", "events"])
    write_json("bench-convergence", {"machine": m, "ms": runs, "peers": [dict(zip(("name", "p50_ms", "p99_ms"), p)) for p in PEERS]})


if __name__ == "__main__":
    main()
