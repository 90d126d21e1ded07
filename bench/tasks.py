#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Life of tasks: how long from a request to running, replaced, moved; and what the daemons weigh.

The engine's figures were measured with dockerd 20.10 on the same kind of machine (2 vCPU, kernel 6.18), three daemons
in three network namespaces: they are a published peer here, not part of this run. Medians of ROUNDS rounds.
"""
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Lab, ctl, machine, table, until, write_json  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "5"))


def spec(name, replicas, network=None, delay=5_000_000_000):
    s = {"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "mesh-demo:1"}, "RestartPolicy": {"Condition": "any", "Delay": delay}},
         "Mode": {"Replicated": {"Replicas": replicas}}}
    if network:
        s["TaskTemplate"]["Networks"] = [{"Target": network}]
    return s


def running(mgr, service):
    q = '/tasks?filters={"service":["%s"],"desired-state":["running"]}' % service
    return [t for t in mgr.call("GET", q.replace('"', "%22")) if t["Status"]["State"] == "running"]


def remove(mgr, name):
    mgr.call("DELETE", f"/services/{name}")
    until(lambda: not mgr.call("GET", "/tasks"), 60, "tasks to go")


def create_to_running(mgr, n, network, rounds):
    out = []
    for i in range(rounds):
        start = time.monotonic()
        mgr.call("POST", "/services/create", spec(f"s{i}", n, network))
        until(lambda: len(running(mgr, f"s{i}")) == n, 60, "running")
        out.append(time.monotonic() - start)
        remove(mgr, f"s{i}")
    return statistics.median(out)


def kill_to_replaced(mgr, lab, rounds):
    out = []
    mgr.call("POST", "/services/create", spec("k", 20, "bench", 0))
    until(lambda: len(running(mgr, "k")) == 20, 60, "running")
    for _ in range(rounds):
        victim = running(mgr, "k")[0]
        pid = victim["Status"]["ContainerStatus"]["PID"]
        before = {t["ID"] for t in running(mgr, "k")}
        start = time.monotonic()
        os.kill(pid, 9)
        until(lambda: len(now := running(mgr, "k")) == 20 and {t["ID"] for t in now} != before, 60, "replacement")
        out.append(time.monotonic() - start)
    return statistics.median(out)


def cut_to_replaced(mgr, lab, rounds):
    out = []
    victim = lab.nodes[-1]
    node_id = next(n["ID"] for n in mgr.call("GET", "/nodes") if n["Description"]["Hostname"] == victim.name)
    for i in range(rounds):
        mgr.call("POST", "/services/create", spec(f"c{i}", 6, "bench", 0))
        until(lambda: len(running(mgr, f"c{i}")) == 6 and any(t["NodeID"] == node_id for t in running(mgr, f"c{i}")), 60, "running")
        start = time.monotonic()
        ctl("lab", "cut", victim.name, "--name", lab.name)
        until(lambda: len([t for t in running(mgr, f"c{i}") if t["NodeID"] != node_id]) == 6, 60, "replacement")
        out.append(time.monotonic() - start)
        ctl("lab", "heal", victim.name, "--name", lab.name)
        until(lambda: all(n["Status"]["State"] == "ready" for n in mgr.call("GET", "/nodes")), 60, "node back")
        remove(mgr, f"c{i}")
    return statistics.median(out)


def creations_per_second(lab, n=2000, workers=8):
    """Several connections at once, each one request at a time, detached services of 0 replicas."""
    code = """
import json, sys, time
sys.path.insert(0, %r)
from lab import Node
node = Node({"name": "n1", "address": "", "socket": %r, "netns": ""})
for i in range(%d):
    node.call("POST", "/services/create", {"Name": "p%%s-%%d" %% (sys.argv[1], i), "TaskTemplate": {"ContainerSpec": {"Image": "mesh-demo:1"}}, "Mode": {"Replicated": {"Replicas": 0}}})
""" % (os.path.dirname(os.path.abspath(__file__)), lab.nodes[0].socket, n // workers)
    start = time.monotonic()
    procs = [subprocess.Popen([sys.executable, "-c", code, str(w)]) for w in range(workers)]
    if any(p.wait() for p in procs):
        raise RuntimeError("a creator failed")
    return n / (time.monotonic() - start)


def rss_mb(pid, key="VmRSS"):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0


def pss_mb(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0


def shims(node):
    """Shims of a node: children of nobody, known by the task directory they work in."""
    found = []
    for p in os.listdir("/proc"):
        if not p.isdigit():
            continue
        try:
            argv = open(f"/proc/{p}/cmdline").read().split("\0")
            if os.path.basename(argv[0]) == "mesh-shim" and os.path.samefile(f"/proc/{p}/cwd", "/proc/self/cwd") is not None:
                if any(f"/{node.socket.split('/')[3]}/{node.name}" in a for a in argv) or \
                        f"/{node.socket.split('/')[3]}/{node.name}/" in os.readlink(f"/proc/{p}/cwd"):
                    found.append(int(p))
        except OSError:
            continue
    return found


def main():
    rows, figures = [], {}

    def row(name, ours, unit, engine, engine_text, aim, better="less"):
        figures[name] = {"meshd": ours, "engine": engine, "unit": unit, "aim": aim}
        ratio = engine / ours if better == "less" else ours / engine
        rows.append([name, f"{ours:.3g} {unit}", engine_text, f"{ratio:.1f} x", f"{aim} {unit}"])
        print(f"  {name}: {ours:.3g} {unit}", flush=True)

    with Lab("bt") as lab:
        mgr = lab.nodes[0]
        until(lambda: all(n["Status"]["State"] == "ready" for n in mgr.call("GET", "/nodes")), 30, "nodes")
        print(f"{ROUNDS} rounds each, medians")
        row("idle manager, RSS", rss_mb(mgr.pid()), "MB", 127, "127 MB", "< 20")
        row("idle worker, RSS", rss_mb(lab.nodes[1].pid()), "MB", 127, "127 MB", "< 20")
        mgr.call("POST", "/networks/create", {"Name": "bench", "Driver": "overlay"})
        create_to_running(mgr, 1, "bench", 1)  # caches are warm in both measurements
        row("create to running, overlay", create_to_running(mgr, 1, "bench", ROUNDS), "s", 1.15, "1.15 s", 0.15)
        row("20 tasks running, overlay", create_to_running(mgr, 20, "bench", ROUNDS), "s", 5.85, "5.0-6.7 s", 0.8)
        row("killed to replaced, delay 0", kill_to_replaced(mgr, lab, ROUNDS), "s", 1.1, "1.1 s", 0.2)
        remove(mgr, "k")
        row("link cut to replaced", cut_to_replaced(mgr, lab, max(2, ROUNDS // 2)), "s", 13.5, "12-15 s", 5)
        worker = lab.nodes[1]
        wid = next(n["ID"] for n in mgr.call("GET", "/nodes") if n["Description"]["Hostname"] == worker.name)
        s = spec("w20", 20, "bench")
        s["TaskTemplate"]["Placement"] = {"Constraints": [f"node.id=={wid}"]}
        mgr.call("POST", "/services/create", s)
        until(lambda: len(running(mgr, "w20")) == 20, 60, "running")
        shim_pids = shims(worker)
        total = rss_mb(worker.pid()) + sum(pss_mb(p) for p in shim_pids)
        if len(shim_pids) != 20:
            print(f"  ({len(shim_pids)} shims found, 20 expected)")
        row("worker with 20 tasks, daemon RSS + shims Pss", total, "MB", 424, "424 MB", "< 30")
        remove(mgr, "w20")
        row("service creations through the API", creations_per_second(lab), "/s", 840, "840 /s", 840, better="more")
    m = machine()
    print(f"\n{m['cpu']}, {m['cores']} cores, kernel {m['kernel']}, load {m['load']:.1f}\n")
    table(rows, ["", "meshd", "engine 20.10", "better by", "aim"])
    write_json("bench-tasks", {"machine": m, "rounds": ROUNDS, "figures": figures})


if __name__ == "__main__":
    main()
