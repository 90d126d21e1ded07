#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a change of a running service costs: an open loop of requests (bench/loadgen.c) through every phase of its life.

  bench/update.py [WORD ...]     words pick behaviours and phases by parts of their names; none: all
  LONG=1                         also requests of 30 s through an update
  PLANE=nft                      with that driver; as meshd's --data-plane

Outside the cluster, loadgen asks a published service of four tasks through all three nodes' addresses; inside, another
asks its VIP from a task's network namespace and cgroup. One run of both a phase: a failure belongs to the phase its request
began in. A phase begins when the one before has settled, and ends when it has.

A keep-alive connection is closed by its client after three seconds, as clients and proxies with a limit do; a service
whose clients never let go loses what is asked in the moment its grace period ends.
"""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import BUILD, CTL, Lab, ctl, machine, table, until, write_json  # noqa: E402

LOADGEN = os.path.join(BUILD, "bench", "loadgen")
OUTSIDE = ["new:100", "new:20:10", "new:20:200", "new:5:2000", "keep:50:12:3000", "udp:50"]
INSIDE = ["new:40", "new:10:200", "keep:20:4:3000", "udp:20"]
SECOND = 1_000_000_000
GRACE = 15
PLANE = os.environ.get("PLANE", "auto")

# The engine's figures for what is alike, VM.md 6 of its measurement: docker.io 20.10, 100 new connections/s, two nodes.
ENGINE = {("exit", "update stop-first, delay 0"): "0 of 10627", ("exit", "update stop-first, delay 5 s"): "0 of 10245",
          ("exit", "update start-first, delay 0"): "0 of 7912", ("exit", "update start-first, delay 5 s"): "0 of 10228",
          ("exit", "kill -9 of a task every second"): "27 of 90, one kill",
          ("exit, listens after 2 s", "update stop-first, delay 0"): "182 of 9342 (1.9 %)",
          ("exit, listens after 2 s", "update start-first, delay 0"): "133 of 9120 (1.5 %)",
          ("exit", "scale 4, 8, 2, 4"): "0 of 1304 (4 to 2)", ("drain", "scale 4, 8, 2, 4"): "0 of 1101 (4 to 2)"}

BEHAVIOURS = {}
for term in ("exit", "drain"):
    for delay in (0, 2):
        for health in (False, True):
            name = term + (", listens after 2 s" if delay else "") + (", health check" if health else "")
            BEHAVIOURS[name] = (term, delay, health)


class Load:
    """loadgen outside, or inside the network namespace and cgroup of a task."""

    def __init__(self, prefix, classes, targets):
        self.p = subprocess.Popen([*prefix, LOADGEN, *classes, *targets], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.p.stdout.readline()
        if line != "first answer\n":
            raise RuntimeError("loadgen got no answer")

    def more(self, n):
        self.p.stdin.write(f"more {n}\n")
        self.p.stdin.flush()
        if self.p.stdout.readline() != "done\n":
            raise RuntimeError("loadgen ended")

    def stop(self):
        out, _ = self.p.communicate("stop\n", timeout=120)
        return json.loads(out)


class Service:
    def __init__(self, lab, behaviour):
        self.lab, self.mgr, self.name = lab, lab.nodes[0], "web"
        self.version = 1
        term, delay, health = behaviour
        env = [f"ON_TERM={term}"] + ([f"LISTEN_DELAY_MS={delay * 1000}"] if delay else [])
        container = {"Image": "mesh-demo:1", "Env": env, "StopGracePeriod": GRACE * SECOND}
        if health:
            container["Healthcheck"] = {"Test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/health"],
                                        "Interval": SECOND // 2, "Timeout": 2 * SECOND, "Retries": 3, "StartPeriod": 5 * SECOND}
        ports = [{"Protocol": p, "TargetPort": 8000, "PublishedPort": 8080} for p in ("tcp", "udp")]
        self.mgr.call("POST", "/services/create", {
            "Name": self.name, "Mode": {"Replicated": {"Replicas": 4}}, "EndpointSpec": {"Ports": ports},
            "TaskTemplate": {"ContainerSpec": container, "Networks": [{"Target": "bench"}],
                             "RestartPolicy": {"Condition": "any", "Delay": 0}}})
        self.settle(4)

    def tasks(self):
        q = json.dumps({"service": [self.name]}).replace(" ", "").replace('"', "%22")
        return self.mgr.call("GET", f"/tasks?filters={q}")

    def running(self):
        return [t for t in self.tasks() if t["Status"]["State"] == "running" and t["DesiredState"] == "running"]

    def settle(self, n, timeout=180):
        """n tasks take traffic, none that should not is left, no update is under way."""
        def done():
            now = self.tasks()
            up = [t for t in now if t["Status"]["State"] == "running" and t["DesiredState"] == "running"]
            rest = [t for t in now if t["Status"]["State"] in ("running", "starting", "preparing", "ready") and t not in up]
            serving = self.serving()
            return len(up) == n and not rest and all(t["ID"] in serving for t in up)
        until(done, timeout, f"{n} tasks", poll=0.05)

    def serving(self):
        return {t["ID"] for t in self.mgr.call("GET", f"/_mesh/services/{self.name}")["Tasks"] if t["Known"]}

    def change(self, edit, query=""):
        s = self.mgr.call("GET", f"/services/{self.name}")
        spec = s["Spec"]
        edit(spec)
        self.mgr.call("POST", f"/services/{s['ID']}/update?version={s['Version']['Index']}{query}", spec)

    def updated(self, state, timeout=240):
        until(lambda: self.mgr.call("GET", f"/services/{self.name}").get("UpdateStatus", {}).get("State") == state, timeout,
              f"update {state}", poll=0.05)

    def update(self, order, delay):
        self.version = 3 - self.version

        def edit(spec):
            spec["TaskTemplate"]["ContainerSpec"]["Image"] = f"mesh-demo:{self.version}"
            for which in ("UpdateConfig", "RollbackConfig"):
                spec[which] = {"Parallelism": 1, "Delay": delay * SECOND, "Order": order, "Monitor": SECOND // 2}
        self.change(edit)
        self.updated("completed")
        self.settle(4)

    def rollback(self):
        self.version = 3 - self.version
        self.change(lambda spec: None, "&rollback=previous")
        self.updated("rollback_completed")
        self.settle(4)

    def scale(self, n):
        self.change(lambda spec: spec["Mode"]["Replicated"].update(Replicas=n))
        self.settle(n)

    def vip(self):
        nets = {n["Id"]: n["Name"] for n in self.mgr.call("GET", "/networks")}
        vips = self.mgr.call("GET", f"/services/{self.name}")["Endpoint"]["VirtualIPs"]
        return next(v["Addr"].split("/")[0] for v in vips if nets.get(v["NetworkID"]) == "bench")

    def remove(self):
        self.mgr.call("DELETE", f"/services/{self.name}")
        until(lambda: all(t["Spec"]["ContainerSpec"].get("Command") for t in self.mgr.call("GET", "/tasks")), 60, "tasks to go")


# --- phases: functions of (lab, service, load); they return times of deliberate damage on the monotonic clock

def steady(lab, s, load):
    load.more(1000)


def availability(lab, name, value):
    mgr = lab.nodes[0]
    n = next(n for n in mgr.call("GET", "/nodes") if n["Description"]["Hostname"] == name)
    mgr.call("POST", f"/nodes/{n['ID']}/update?version={n['Version']['Index']}", dict(n["Spec"], Availability=value))
    return n["ID"]


def drain_and_activate(lab, s, load):
    nid = availability(lab, "n3", "drain")
    until(lambda: all(t["NodeID"] != nid for t in s.running()), 60, "n3 to be empty", poll=0.05)
    s.settle(4)
    availability(lab, "n3", "active")
    s.scale(5)
    s.scale(4)


def kill_tasks(lab, s, load):
    kills = []
    for _ in range(8):
        victim = until(s.running, 10, "a task")[0]
        kills.append(time.monotonic())
        os.kill(victim["Status"]["ContainerStatus"]["PID"], 9)
        load.more(sum(int(c.split(":")[1]) for c in OUTSIDE))  # a second of the open loop
    s.settle(4)
    return kills


def nodes_ready(lab):
    until(lambda: all(n["Status"]["State"] == "ready" for n in lab.nodes[0].call("GET", "/nodes")), 60, "nodes", poll=0.05)


def kill_daemons(lab, s, load):
    for name in ("n2", "n1"):
        ctl("lab", "kill", name, "--name", lab.name)
        load.more(200)
        ctl("lab", "start", name, "--name", lab.name)
        nodes_ready(lab)
    s.settle(4)


def cut_node(lab, s, load):
    at = time.monotonic()
    ctl("lab", "cut", "n3", "--name", lab.name)
    nid = next(n["ID"] for n in lab.nodes[0].call("GET", "/nodes") if n["Description"]["Hostname"] == "n3")
    until(lambda: len([t for t in s.running() if t["NodeID"] != nid]) == 4, 60, "replacements", poll=0.05)
    load.more(1000)
    ctl("lab", "heal", "n3", "--name", lab.name)
    nodes_ready(lab)
    s.settle(4)
    return [at]


PHASES = {
    "nothing changes": steady,
    "update stop-first, delay 0": lambda lab, s, load: s.update("stop-first", 0),
    "update start-first, delay 0": lambda lab, s, load: s.update("start-first", 0),
    "rollback": lambda lab, s, load: s.rollback(),
    "update stop-first, delay 5 s": lambda lab, s, load: s.update("stop-first", 5),
    "update start-first, delay 5 s": lambda lab, s, load: s.update("start-first", 5),
    "scale 4, 8, 2, 4": lambda lab, s, load: [s.scale(n) for n in (8, 2, 4)] and None,
    "drain and activate a node": drain_and_activate,
    "kill -9 of a task every second": kill_tasks,
    "kill -9 of daemons": kill_daemons,
    "cut of a node": cut_node,
}


def inside_prefix(lab):
    """Puts a command into the network namespace and cgroup of a task that idles on the service's network."""
    pid = next(t for t in lab.nodes[0].call("GET", "/tasks") if t["Spec"]["ContainerSpec"]["Image"].startswith("mesh-demo") and
               t["Spec"]["ContainerSpec"].get("Command"))["Status"]["ContainerStatus"]["PID"]
    path = next(l.rstrip("\n").split(":", 2)[2] for l in open(f"/proc/{pid}/cgroup") if l.startswith("0:"))
    mount = next(l.split()[1] for l in open("/proc/mounts") if l.split()[2] == "cgroup2")
    return ["sh", "-c", f'echo $$ >{mount}{path}/cgroup.procs && exec nsenter -t {pid} -n "$@"', "sh"]


def start_inside(lab):
    lab.nodes[0].call("POST", "/networks/create", {"Name": "bench", "Driver": "overlay"})
    lab.nodes[0].call("POST", "/services/create", {
        "Name": "inside", "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {"ContainerSpec": {"Image": "mesh-demo:1", "Command": ["/bin/sleep", "1000000"]},
                         "Networks": [{"Target": "bench"}], "Placement": {"Constraints": ["node.hostname==n2"]}}})
    until(lambda: [t for t in lab.nodes[0].call("GET", "/tasks") if t["Status"]["State"] == "running"], 30, "the inside task")


def excused(failure, start, damage):
    """Open to what was killed: begun before, failed after, and told so."""
    begin = start + failure["at"]
    return any(begin <= k + 0.002 and begin + failure["after_ms"] / 1000 >= k for k in damage) and "timeout" not in failure["why"]


def run_phase(lab, s, phase, outside=OUTSIDE, inside=INSIDE):
    targets = [f"{n.address}:8080" for n in lab.nodes]
    if PHASES.get(phase) is cut_node:
        targets.pop()  # the others are asked whether they suffer
    loads = {"outside": Load([CTL, "lab", "client", "--name", lab.name, "--"], outside, targets),
             "inside": Load(inside_prefix(lab), inside, [f"{s.vip()}:8000"])}
    loads["outside"].more(150)
    begin = time.monotonic()
    damage = (PHASES.get(phase) or steady)(lab, s, loads["outside"]) or []
    seconds = time.monotonic() - begin
    loads["outside"].more(150)
    return {where: dict(load.stop(), damage=damage) for where, load in loads.items()}, seconds


def summary(result):
    """sent, failed by kind, failed though begun after the damage, worst latency."""
    classes = result["classes"]
    kinds = {k: sum(c[k] for c in classes) for k in ("refused", "reset", "empty", "timeout", "other")}
    new = [f for f in result["failures"] if not excused(f, result["start"], result["damage"])]
    fast = next(c for c in classes if c["class"].startswith("new:"))
    return {"sent": sum(c["sent"] for c in classes), "failed": sum(kinds.values()), "kinds": kinds, "not_open": len(new),
            "p50": fast["ms"]["p50"], "p99": fast["ms"]["p99"], "p999": fast["ms"]["p999"], "max": fast["ms"]["max"],
            "last": max((result["start"] + f["at"] - min(result["damage"], default=result["start"]) for f in result["failures"]), default=0)}


def show(behaviour, phase, runs, seconds):
    row = [behaviour, phase, f"{seconds:.1f}"]
    for where in ("outside", "inside"):
        r = summary(runs[where])
        kinds = " ".join(f"{n} {k}" for k, n in r["kinds"].items() if n)
        late = ""
        if runs[where]["damage"] and r["failed"]:
            late = f", {r['not_open']} not open then, the last begun {r['last']:+.2f} s"
        row += [f"{r['failed']} of {r['sent']}" + (f" ({kinds}{late})" if kinds else ""), f"{r['p50']:.1f}/{r['p99']:.0f}/{r['max']:.0f}"]
    row.append(ENGINE.get((behaviour, phase), "-"))
    print("  " + " | ".join(row), flush=True)
    for where, run in runs.items():
        for f in sorted(run["failures"], key=lambda f: excused(f, run["start"], run["damage"]))[:int(os.environ.get("SHOW", "12"))]:
            mark = "open " if excused(f, run["start"], run["damage"]) else ""
            since = min((run["start"] + f["at"] - d for d in run["damage"]), key=abs, default=None)
            when = "" if since is None else f" {since:+.3f} s"
            print(f"      {where} at {f['at']:.3f}{when} {mark}{f['class']} {f['target']} port {f['port']}: {f['why']} after {f['after_ms']} ms",
                  flush=True)
    return row


def long_requests(lab, rows, figures):
    """Requests of 30 s, through an update with a grace period that lets them end."""
    global GRACE
    before, GRACE = GRACE, 45
    s = Service(lab, BEHAVIOURS["exit"])
    PHASES["update start-first, requests of 30 s"] = lambda l, svc, load: svc.update("start-first", 0)
    runs, seconds = run_phase(lab, s, "update start-first, requests of 30 s", ["new:50", "new:1:30000"], ["new:20", "new:1:30000"])
    rows.append(show("exit", "update start-first, requests of 30 s", runs, seconds))
    figures.append({"behaviour": "exit", "phase": "update start-first, requests of 30 s", "seconds": seconds, "runs": runs})
    s.remove()
    GRACE = before


def main():
    words = sys.argv[1:]
    behaviours = [b for b in BEHAVIOURS if b in words] or list(BEHAVIOURS)
    picked = [p for p in PHASES if any(w in p for w in words)] or list(PHASES)
    rows, figures = [], []
    try:
        with Lab("upd", plane=PLANE) as lab:
            nodes_ready(lab)
            start_inside(lab)
            for b in behaviours:
                s = Service(lab, BEHAVIOURS[b])
                for phase in picked:
                    try:
                        runs, seconds = run_phase(lab, s, phase)
                    except RuntimeError as e:
                        rows.append([b, phase, "-", f"phase did not end: {e}", "-", "-", "-", "-"])
                        print(f"  {b} | {phase} | {e}", flush=True)
                        continue
                    rows.append(show(b, phase, runs, seconds))
                    figures.append({"behaviour": b, "phase": phase, "seconds": seconds, "runs": runs})
                s.remove()
            if os.environ.get("LONG"):
                long_requests(lab, rows, figures)
    finally:
        m = machine()
        print(f"\n{m['cpu']}, {m['cores']} cores, kernel {m['kernel']}, load {m['load']:.1f}, data plane {PLANE}\n")
        table(rows, ["task", "phase", "s", "outside: failed", "p50/p99/max ms", "VIP: failed", "p50/p99/max ms", "engine 20.10"])
        write_json("bench-update", {"machine": m, "plane": PLANE, "outside": OUTSIDE, "inside": INSIDE, "figures": figures})


if __name__ == "__main__":
    main()
