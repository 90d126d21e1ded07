# SPDX-License-Identifier: GPL-2.0-or-later
"""Where tasks go by what nodes are: every key of a constraint, and resources that a node offers by kind or by name.

    n2: meshd --label disk=ssd --node-generic-resource gpu=card-a --node-generic-resource gpu=card-b --node-generic-resource fpga=3
"""
import json
import os

from meshlab import IMAGE, MESHD, wait_for

OFFER = "--label disk=ssd --node-generic-resource gpu=card-a --node-generic-resource gpu=card-b --node-generic-resource fpga=3"


def offering(fresh_lab):
    """A lab of two whose n2 was started anew with what it offers."""
    lab = fresh_lab(nodes=2)
    lab.verb("stop", 2)
    wrapper = os.path.join(lab.config, "meshd")
    with open(wrapper, "w") as f:
        f.write(f'#!/bin/sh\nexec {MESHD} {OFFER} "$@"\n')
    os.chmod(wrapper, 0o755)
    lab.env["MESHD"] = wrapper
    lab.verb("start", 2)
    lab.wait_nodes()
    wait_for(lambda: lab.get(1, f"/nodes/{lab.node_id(2)}")["Description"]["Engine"].get("Labels"), what="n2's labels to be known")
    return lab


def waits(lab, name):
    said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks(name) if t["Status"].get("Err")], what=f"{name} to wait")
    return said[0]


def test_constraints_and_generic_resources(fresh_lab):
    lab = offering(fresh_lab)
    info = json.loads(lab.docker(2, "info", "--format", "{{json .}}").stdout)
    assert info["Labels"] == ["disk=ssd"]
    assert [g.get("NamedResourceSpec", g.get("DiscreteResourceSpec"))["Value"] for g in info["GenericResources"]] == ["card-a", "card-b", 3]
    assert "disk=ssd" in lab.docker(1, "node", "inspect", "--pretty", lab.node_id(2)).stdout

    lab.docker(1, "node", "update", "--label-add", "zone=b", lab.node_id(2))
    node = lab.get(1, f"/nodes/{lab.node_id(2)}")
    for n, c in enumerate([f"node.id=={lab.node_id(2)}", "node.hostname==n2", "node.hostname!=n1", f"node.ip=={lab.addr(2)}",
                           f"node.ip=={lab.addr(2)}/32", "node.role==worker", "node.role!=manager", "node.labels.zone==b",
                           "engine.labels.disk==ssd", "engine.labels.disk!=hdd"]):
        both = ["--constraint", f"node.platform.arch=={node['Description']['Platform']['Architecture']}", "--constraint",
                "node.platform.os==linux"]
        on = {2} if "disk!=" not in c else {1, 2}
        lab.create("--name", f"c{n}", "--constraint", c, *both, IMAGE)
        assert {lab.node_number(t) for t in lab.running(f"c{n}")} <= on, c
    lab.docker(1, "service", "create", "-q", "-d", "--name", "none", "--constraint", "engine.labels.disk==hdd", IMAGE)
    assert "scheduling constraints not satisfied on 2 nodes" in waits(lab, "none")
    assert "scheduling constraints not satisfied" in lab.docker(1, "service", "ps", "--no-trunc", "none").stdout
    for name in ["none"] + [f"c{n}" for n in range(10)]:
        lab.docker(1, "service", "rm", name)

    # Two cards: two tasks have one each and are told which; the third waits, until one ends.
    lab.docker(1, "service", "create", "-q", "-d", "--name", "ml", "--replicas", "3", "--generic-resource", "gpu=1", "--generic-resource",
               "fpga=1", IMAGE)
    tasks = lab.wait_running("ml", 2)
    said = sorted(lab.exec(t, "sh", "-c", "echo $DOCKER_RESOURCE_GPU $DOCKER_RESOURCE_FPGA").stdout for t in tasks)
    assert said == ["card-a 1\n", "card-b 1\n"] and {lab.node_number(t) for t in tasks} == {2}
    assert "insufficient resources on 2 nodes" in waits(lab, "ml")
    freed = [t for t in tasks if {"NamedResourceSpec": {"Kind": "gpu", "Value": "card-a"}} in t["GenericResources"]][0]
    lab.docker(2, "rm", "-f", freed["Status"]["ContainerStatus"]["ContainerID"])
    now = wait_for(lambda: [t for t in lab.running("ml") if t["ID"] not in {x["ID"] for x in tasks}], 30, "another to get the card")
    assert lab.exec(now[0], "sh", "-c", "echo $DOCKER_RESOURCE_GPU").stdout == "card-a\n"


def test_a_label_that_goes_takes_its_tasks(lab):
    """Constraints hold for what runs too: a node that no longer meets them loses those tasks."""
    for k in (2, 3):
        lab.docker(1, "node", "update", "--label-add", "zone=a", lab.node_id(k))
    for name, mode in (("z", ["--replicas", "2"]), ("g", ["--mode", "global"])):
        lab.create("--name", name, *mode, "--constraint", "node.labels.zone==a", IMAGE, n=2)
    lab.docker(1, "node", "update", "--label-rm", "zone", lab.node_id(3))
    wait_for(lambda: [lab.node_number(t) for t in lab.running("z")] == [2, 2], what="n2 to have both")
    wait_for(lambda: [lab.node_number(t) for t in lab.running("g")] == [2], what="n3 to lose the global task")
    lab.docker(1, "node", "update", "--label-rm", "zone", lab.node_id(2))
    wait_for(lambda: not lab.running("g") and not lab.running("z"), what="n2 to lose them too")
    assert "scheduling constraints not satisfied on 3 nodes" in waits(lab, "z")
