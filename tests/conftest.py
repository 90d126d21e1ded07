# SPDX-License-Identifier: GPL-2.0-or-later
"""Labs for the live rings: real daemons in network namespaces, driven by meshctl and by the docker client.

    lab         one three-node lab a session, demo images loaded; every test leaves it empty
                a test marked each_plane asks three: of nodes with the ebpf driver, with nft, and of both kinds
    fresh_lab   makes a lab for one test that breaks things:  l = fresh_lab(nodes=2)
    cli         "docker" and "meshctl": cli(lab, node, *args), for verbs both have

Labs are named t<pid>[x]: a run that was killed is cleaned up by the next one. What a lab can do: support/meshlab.py.
"""
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from meshlab import BUILD, IMAGES, MESHCTL, MESHD, ROOT, Lab  # noqa: E402


def pytest_configure(config):
    """A machine without a docker client gets one, before anybody asks whether there is one."""
    if not shutil.which("docker"):
        p = subprocess.run([os.path.join(ROOT, "tests", "docker-cli.sh"), BUILD], capture_output=True, text=True)
        if p.returncode == 0:
            os.environ["PATH"] = os.path.dirname(p.stdout.strip()) + ":" + os.environ["PATH"]


LABS = []


def sweep_dead():
    """Labs of runs that were killed."""
    out = subprocess.run([MESHCTL, "lab", "ls", "-q"], capture_output=True, text=True).stdout
    names = set(os.listdir("/run/mesh") if os.path.isdir("/run/mesh") else [])
    for entry in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        m = re.fullmatch(r"mesh-(t\d+[a-z]*)-(n\d+|sw|client)", entry)
        if m:
            names.add(m[1])
    assert out is not None
    for name in sorted(names):
        m = re.fullmatch(r"t(\d+)[a-z]*", name)
        if m and not os.path.exists(f"/proc/{m[1]}"):
            subprocess.run([MESHCTL, "lab", "down", "--name", name], capture_output=True)
            shutil.rmtree(os.path.join("/tmp", f"mesh-test-{name}"), ignore_errors=True)


def new_lab(suffix="", **kw):
    l = Lab(f"t{os.getpid()}{suffix}", **kw)
    LABS.append(l)
    return l


def probe():
    if os.geteuid() != 0:
        pytest.skip("probed for root: not root")
    for path in (MESHCTL, MESHD, IMAGES):
        if not os.path.exists(path):
            pytest.fail(f"{path} was not built: make all images")


@pytest.fixture(scope="session")
def machine():
    """What every live test needs: root, binaries, no leftovers."""
    probe()
    sweep_dead()
    yield
    for l in list(LABS):
        l.down()
        LABS.remove(l)


PLANES = {"ebpf": (None, ["ebpf"] * 3), "nft": ("nft", ["nft"] * 3), "mixed": ("n2=nft", ["ebpf", "nft", "ebpf"])}
each_plane = pytest.mark.parametrize("lab", list(PLANES), indirect=True)


@pytest.fixture(scope="session")
def plane_labs(machine):
    """The labs made so far, by plane."""
    return {}


@pytest.fixture
def lab(plane_labs, request):
    """lab.drivers: of n1, n2, n3. What a node's driver cannot do is asked of the node: lab.cannot()."""
    plane = getattr(request, "param", "ebpf")
    if plane not in plane_labs:
        asked, drivers = PLANES[plane]
        plane_labs[plane] = new_lab("" if plane == "ebpf" else plane[0] + "x", plane=asked)
        plane_labs[plane].drivers = drivers
    yield plane_labs[plane]
    plane_labs[plane].clean()


@pytest.fixture
def fresh_lab(machine):
    made = []

    def make(**kw):
        l = new_lab("abcdefgh"[len(made)], **kw)
        made.append(l)
        return l

    yield make
    for l in made:
        LABS.remove(l)
        l.down()


@pytest.fixture(params=["docker", "meshctl"])
def cli(request):
    """The verb under test, through both clients: cli(lab, node, *args)."""
    if request.param == "docker" and not shutil.which("docker"):
        pytest.skip("probed for the docker client: none, and tests/docker-cli.sh got none")

    def call(l, k, *args, **kw):
        return getattr(l, request.param)(k, *args, **kw)

    call.name = request.param
    return call


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    item.mesh_log_sizes = {l.name: l.log_sizes() for l in LABS}
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.mesh_reports = getattr(item, "mesh_reports", []) + [report]
    if report.failed:
        for l in LABS:
            report.sections.append((f"daemon logs of lab {l.name}", l.new_logs(getattr(item, "mesh_log_sizes", {}).get(l.name, {}))))
    if report.when == "teardown" and "MESH_TEST_RECORD" in os.environ:
        record(item)


# A run that takes long can be interrupted: MESH_TEST_DONE is a file with a line a test, "outcome seconds id", of tests that are left
# out but for those that failed; MESH_TEST_RECORD is where such lines are written, each when its test has ended. What a failure said
# is beside it, .failures.
def pytest_collection_modifyitems(config, items):
    if not os.path.exists(os.environ.get("MESH_TEST_DONE", "")):
        return
    with open(os.environ["MESH_TEST_DONE"]) as f:
        outcomes = {line.split(" ", 2)[2].strip(): line.split(" ", 1)[0] for line in f if line.count(" ") >= 2}
    done = [i for i in items if outcomes.get(i.nodeid, "failed") != "failed"]
    config.hook.pytest_deselected(items=done)
    items[:] = [i for i in items if i not in done]


def record(item):
    worst = max(item.mesh_reports, key=lambda r: ["passed", "skipped", "failed"].index(r.outcome))
    with open(os.environ["MESH_TEST_RECORD"], "a") as f:
        print(worst.outcome, round(sum(r.duration for r in item.mesh_reports)), item.nodeid, file=f)
    for r in item.mesh_reports:
        if r.failed:
            with open(os.environ["MESH_TEST_RECORD"] + ".failures", "a") as f:
                print(f"== {item.nodeid}, {r.when}", r.longreprtext, *[f"{name}:\n{text}" for name, text in r.sections], sep="\n", file=f)


def pytest_sessionstart(session):
    """A terminated run takes its labs along."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
