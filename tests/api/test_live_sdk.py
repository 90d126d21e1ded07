# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python SDK (python3-docker) against a real cluster: nodes, networks, services, tasks, containers, images."""
import docker
import pytest
from docker.types import EndpointSpec, NetworkAttachmentConfig, Resources, RestartPolicy, ServiceMode

from meshlab import IMAGE, wait_for


@pytest.fixture
def sdk(lab):
    clients = {k: docker.DockerClient(base_url=f"unix://{lab.sock(k)}", timeout=30) for k in lab.nodes}
    yield clients
    for c in clients.values():
        c.close()


def test_system_and_nodes(lab, sdk):
    c = sdk[1]
    assert c.ping() and c.info()["Swarm"]["Nodes"] == 3 and c.version()["Os"] == "linux"
    assert c.swarm.attrs["ID"] and c.swarm.attrs["JoinTokens"]["Worker"].startswith("SWMTKN-1-")
    nodes = {n.attrs["Description"]["Hostname"]: n for n in c.nodes.list()}
    assert set(nodes) == {"n1", "n2", "n3"}
    n = nodes["n2"]
    assert n.update({"Availability": "active", "Role": "worker", "Labels": {"disk": "ssd"}})
    assert c.nodes.get(n.id).attrs["Spec"]["Labels"] == {"disk": "ssd"}
    assert [x.attrs["Description"]["Hostname"] for x in c.nodes.list(filters={"role": "manager"})] == ["n1"]


def test_networks_services_tasks(lab, sdk):
    c = sdk[1]
    net = c.networks.create("sdk", driver="overlay", attachable=True, labels={"a": "b"})
    assert net.attrs["Driver"] == "overlay" and net.attrs["Labels"] == {"a": "b"} and c.networks.list(names=["sdk"])[0].id == net.id
    s = c.services.create(IMAGE, name="web", env=["A=b"], networks=[NetworkAttachmentConfig("sdk", aliases=["www"])],
                          mode=ServiceMode("replicated", replicas=2), endpoint_spec=EndpointSpec(ports={8088: 8000}),
                          resources=Resources(mem_limit=64 << 20), restart_policy=RestartPolicy("on-failure", delay=10**8),
                          constraints=["node.role==worker"], labels={"x": "y"})
    lab.wait_running("web", 2)
    assert c.services.list(filters={"name": "web"})[0].id == s.id and s.attrs["Spec"]["Labels"] == {"x": "y"}
    assert {t["Status"]["State"] for t in s.tasks(filters={"desired-state": "running"})} == {"running"}
    for a in lab.addresses:
        assert lab.fields(f"http://{a}:8088/")["client"].split(":")[0] == lab.client_addr
    assert s.scale(3)
    lab.wait_running("web", 3)
    s.reload()
    assert s.update(env=["A=c"], fetch_current_spec=True) is not None
    wait_for(lambda: all(t["Spec"]["ContainerSpec"]["Env"] == ["A=c"] for t in lab.wait_running("web", 3)), 60, "the update")
    assert any(b"listening on port 8000" in line for line in c.services.get("web").logs(stdout=True))
    with pytest.raises(docker.errors.APIError) as e:
        net.remove()
    assert "in use" in e.value.explanation
    assert c.services.get("web").remove()
    with pytest.raises(docker.errors.NotFound):
        c.services.get("web")
    wait_for(lambda: not lab.tasks(), 20, "tasks to go")
    net.remove()


def test_containers_and_images(lab, sdk):
    t = lab.create("--name", "web", "--constraint", "node.hostname==n3", IMAGE)[0]
    c = sdk[3]
    container = c.containers.get(t["Status"]["ContainerStatus"]["ContainerID"])
    assert container.status == "running" and container.name == f"web.1.{t['ID']}" and [x.id for x in c.containers.list()] == [container.id]
    r = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
    assert r.exit_code == 5 and r.output == (b"out\n", b"err\n")
    assert b"listening on port 8000" in container.logs()
    assert container.top()["Processes"]
    assert IMAGE in [tag for i in c.images.list() for tag in i.tags]
    assert c.images.get(IMAGE).attrs["Config"]["Cmd"] == ["/bin/echo-server"]
    with pytest.raises(docker.errors.ImageNotFound):
        c.images.get("nope:1")
    container.remove(force=True)
    wait_for(lambda: container.id not in [x.id for x in c.containers.list(all=True)], 10, "the container to go")
