# SPDX-License-Identifier: GPL-2.0-or-later
"""Never in the way: daemons are killed, started again and replaced by a build whose maps have another layout, under load.

    client ── loadgen ──► n1 n2 n3 :8080 ──► web on all nodes          published: TCP, UDP
    ask    ── loadgen ──► web's virtual address, per socket (in the tasks' cgroup) and per packet (outside of it)
    ask    ── loadgen ──► web's tasks, one by one                      overlay
"""
import glob
import json
import os
import re

import pytest

from conftest import LABS, new_lab
from meshlab import BUILD, IMAGE, MESHD, wait_for

NEXT = os.path.join(BUILD, "next", "meshd")
# Connections that rest, connections that are asked all the time, new ones, datagrams.
MIX = ["new:60", "keep:6:6:600000", "keep:60:6:600000", "udp:30"]


def cgroup_of(pid):
    path = next(l.split(":", 2)[2].strip() for l in open(f"/proc/{pid}/cgroup") if l.startswith("0:"))
    mount = next(l.split()[1] for l in open("/proc/mounts") if l.split()[2] == "cgroup2")
    return mount + path


def inside(ask, cgroup=False):
    """The start of a command in a task's network namespace; in its cgroup, where VIPs are translated by socket, or not."""
    pid = str(ask["Status"]["ContainerStatus"]["PID"])
    enter = ["nsenter", "-t", pid, "-n"]
    return ["sh", "-c", f'echo $$ >{cgroup_of(pid)}/cgroup.procs && exec {" ".join(enter)} "$@"', "sh"] if cgroup else enter


def loads(lab, ask):
    """ask: three tasks, so that their ports do not meet."""
    nets = {n["Name"]: n["Id"] for n in lab.get(1, "/networks")}
    vip = next(v["Addr"].split("/")[0] for v in lab.get(1, "/services/web")["Endpoint"]["VirtualIPs"] if v["NetworkID"] == nets["net"])
    tasks = [a.split("/")[0] for t in lab.running("web") for x in t["NetworksAttachments"]
             if x["Network"]["Spec"]["Name"] == "net" for a in x["Addresses"]]
    return {"ingress": lab.loadgen(MIX, [f"{lab.addr(k)}:8080" for k in lab.nodes]),
            "VIP by socket": lab.loadgen(MIX, [f"{vip}:8000"], inside(ask[0], True)),
            "VIP by packet": lab.loadgen(MIX, [f"{vip}:8000"], inside(ask[1])),
            "overlay": lab.loadgen(MIX, [f"{a}:8000" for a in tasks], inside(ask[2]))}


def check_nothing_failed(result):
    for path, r in result.items():
        assert not r["failures"], (path, r["failures"][:5])
        for c in r["classes"]:
            assert c["ok"] == c["sent"] > 0, (path, c)
            assert not c.get("idle_closed"), (path, c)


@pytest.fixture(scope="module", params=["ebpf", "nft"])
def world(machine, request):
    lab = new_lab("u" + request.param[0], plane=request.param)
    lab.driver = request.param
    lab.meshctl(1, "network", "create", "-d", "overlay", "net")
    lab.create("--name", "web", "--network", "net", "--replicas", "4", "-p", "8080:8000", "-p", "8080:8000/udp",
               "--stop-grace-period", "1s", IMAGE, n=4)
    lab.ask = lab.create("--name", "ask", "--network", "net", "--replicas", "3", "--stop-signal", "SIGKILL", IMAGE, "sleep", "100000", n=3)
    wait_for(lambda: all(t["Known"] for t in lab.get(1, "/_mesh/services/web")["Tasks"]), 30, "web to be known everywhere")
    yield lab
    LABS.remove(lab)
    lab.down()


def replace(lab, k, meshd, verb="kill"):
    """Node k's daemon ends and another takes its place; done once it has put everything in force again."""
    lab.env["MESHD"] = meshd
    try:
        lab.verb(verb, k)
        size = len(lab.log(k))
        lab.verb("start", k)
        wait_for(lambda: "taken over from before" in lab.log(k)[size:], 30, f"n{k} to have taken over")
        lab.wait_nodes()
    finally:
        lab.env["MESHD"] = MESHD


def rules_of(lab, k):
    """Handles of our nftables tables, chains, sets and rules, which what is made anew changes."""
    return [re.findall(r"# handle (\d+)$", lab.node_exec(k, "nft", "-a", "list", "table", *t.split()[1:]).stdout, re.M)
            for t in lab.node_exec(k, "nft", "list", "tables").stdout.splitlines() if t.endswith("_lb")]


def service_chains(lab, k):
    """Of what packets come to services by: {chain: (its handle, those of its rules, where it only goes on to, does it hash)}"""
    said = json.loads(lab.node_exec(k, "nft", "-j", "-a", "list", "table", "ip", "mesh_lb").stdout)["nftables"]
    chains = {c["name"]: (c["handle"], [], [], []) for c in (o["chain"] for o in said if "chain" in o) if re.match(r"[vpo]_", c["name"])}
    for rule in (o["rule"] for o in said if "rule" in o and o["rule"]["chain"] in chains):
        _, handles, to, hashed = chains[rule["chain"]]
        handles.append(rule["handle"])
        to += [e["goto"]["target"] for e in rule["expr"] if "goto" in e]
        hashed += [True] if '"jhash"' in json.dumps(rule["expr"]) else []
    return chains


def entries(chains):
    return {name: to[0] for name, (_, _, to, _) in chains.items() if re.fullmatch(r"[vpo]_[0-9a-f]{16}", name)}


def test_change_of_a_set(world):
    """
    Tasks are chosen in another way from now on, and nothing that is open notices. nft: a change switches one rule of a
    chain; the chains before and after it are never touched, whoever is in them.
    """
    running = loads(world, world.ask)
    first = {k: service_chains(world, k) for k in world.nodes if world.driver == "nft"}
    for change in (["--label-add", "mesh.affinity=client"], ["--label-rm", "mesh.affinity"]):
        world.meshctl(1, "service", "update", "-d", *change, "web")
        running["ingress"].more(50)
        for k, was in first.items():
            affine = lambda chains: any(name[0] == "v" and bool(chains[to][3]) for name, to in entries(chains).items())
            now = wait_for(lambda: (now := service_chains(world, k)) and affine(now) == ("--label-add" in change) and now, 20, f"n{k}'s rules")
            for name, to in entries(now).items():
                assert now[name][0] == was[name][0] and len(now[name][1]) == 1 and now[to][1], (name, to, was, now)
            # One that was removed since and made again is another chain, and has another handle.
            for name in now.keys() & was.keys() - entries(was).keys():
                assert now[name] == was[name] or now[name][0] != was[name][0], (name, was, now)
    check_nothing_failed({path: l.stop(100) for path, l in running.items()})


def programs_of(lab, k):
    """Our BPF programs that outlive the daemon, by their pins."""
    pins = glob.glob(f"/run/mesh/{lab.name}/n{k}/bpf/maps*/p*_*")
    return {os.path.basename(p): json.loads(lab.run(["bpftool", "-j", "prog", "show", "pinned", p]).stdout)["id"] for p in pins
            if re.match("p[0-9a-f]{16}_", os.path.basename(p)) and not p.endswith("_bss")}


@pytest.mark.parametrize("verb", ["kill", "stop"])
def test_restart(world, verb):
    """Whoever starts again changes nothing: not a rule of nft, not a program."""
    running = loads(world, world.ask)
    for k in world.nodes:
        rules, programs = rules_of(world, k), programs_of(world, k)
        replace(world, k, MESHD, verb)
        running["ingress"].more(50)
        assert (world.driver == "nft") == (len(rules) == 2) and rules_of(world, k) == rules
        assert (world.driver == "ebpf") == (len(programs) >= 12) and programs_of(world, k) == programs
    check_nothing_failed({path: l.stop(100) for path, l in running.items()})


def test_upgrade_to_another_layout_and_back(world):
    assert os.path.exists(NEXT), f"{NEXT} was not built: make {os.path.relpath(NEXT)}"
    running = loads(world, world.ask)
    for meshd in (NEXT, MESHD):
        sizes = world.log_sizes()
        for k in world.nodes:
            replace(world, k, meshd)
            running["ingress"].more(50)
            if world.driver == "ebpf":
                log = world.log(k)[sizes[k]:]
                assert "maps of another layout taken over" in log and "hand-over without" not in log, log[-2000:]
                pins = os.listdir(f"/run/mesh/{world.name}/n{k}/bpf")
                assert len([m for m in pins if re.fullmatch(r"maps[\d_]+", m)]) == 1, pins
    check_nothing_failed({path: l.stop(100) for path, l in running.items()})


def test_flow_tables_of_another_size(world, tmp_path):
    """meshd --flows: what is open is carried over to tables of another size."""
    if world.driver == "nft":
        return  # conntrack's table is the host's
    smaller = tmp_path / "meshd"
    smaller.write_text(f'#!/bin/sh\nexec {MESHD} "$@" --flows 32768\n')
    smaller.chmod(0o755)
    running = loads(world, world.ask)
    for meshd, size in ((str(smaller), 32768), (MESHD, 65536)):
        for k in world.nodes:
            replace(world, k, meshd)
            running["ingress"].more(50)
            metrics = world.raw(k, "GET", "/metrics")[1].decode()
            assert f'mesh_table_max_entries{{table="flows"}} {size}\n' in metrics, metrics
    check_nothing_failed({path: l.stop(100) for path, l in running.items()})
