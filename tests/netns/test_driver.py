# SPDX-License-Identifier: GPL-2.0-or-later
"""Which driver nodes run when nobody says which, and their kernels have no bpf().

    client .10 ──┬── n1 .11 (manager)
                 └── n2 .12
"""
import glob
import os
import re
import subprocess
import sys

import pytest

from meshlab import IMAGE, MESHD, SUPPORT, wait_for


def wrapper_of(tmp_path, how):
    path = tmp_path / "meshd"
    path.write_text(f'#!/bin/sh\n{how} {MESHD} "$@"\n')
    path.chmod(0o755)
    return str(path)


def no_load(tmp_path):
    """A meshd for which the kernel has all, and takes no program."""
    lib = tmp_path / "no_load.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", str(lib), f"{SUPPORT}/no_load.c"], check=True)
    return wrapper_of(tmp_path, f"LD_PRELOAD={lib} exec")


def serves(lab):
    """A task on n2, asked through every node, sees the client."""
    lab.create("--name", "web", "--constraint", "node.hostname==n2", "-p", "8080:8000", IMAGE)
    lab.wait_published(8080)
    for a in lab.addresses:
        assert lab.fields(f"http://{a}:8080/")["client"].split(":")[0] == lab.client_addr


def test_a_kernel_without_bpf_gets_nft(fresh_lab, tmp_path):
    """Chosen, said once in the log and by node inspect, with the reason; and it works."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("probed for cgroup v1 device control: on pure v2 container runtimes need bpf() themselves")
    lab = fresh_lab(nodes=2, env={"MESHD": wrapper_of(tmp_path, f"exec {sys.executable} {SUPPORT}/no_bpf.py")})
    for k in lab.nodes:
        said = lab.driver(k)
        why = re.match(r"nft: no eBPF \((.*?)\); cannot ", said)
        assert why and "bpf() system call" in why[1], said
        assert lab.log(k).count("data plane is up") == 1 and lab.log(k).count(f'data plane is up driver="{said}"') == 1
    serves(lab)


def test_programs_that_do_not_load(fresh_lab, tmp_path):
    """Probes well, loads nothing: nft, said once with what the kernel answered; beside programs of an earlier run, too."""
    lab = fresh_lab(nodes=2)
    assert lab.driver(2).startswith("ebpf: ")
    pins = lambda: [f for _, _, files in os.walk(f"/proc/{lab.pid(2)}/root/run/mesh/{lab.name}/n2/bpf") for f in files if "." not in f]
    assert pins()
    lab.env["MESHD"] = no_load(tmp_path)
    lab.verb("stop", 2)
    lab.verb("start", 2)
    assert lab.driver(2).startswith("ebpf: ")  # what runs already needs no loading
    lab.verb("stop", 2)
    for pin in glob.glob(f"/run/mesh/{lab.name}/n2/bpf/maps*/p*_from_*"):  # as if it were another build's
        os.unlink(pin)
    lab.verb("start", 2)
    why = wait_for(lambda: re.match(r"nft: eBPF does not start \((.*)\); cannot ", lab.driver(2)), 30, "n2 to fall back")
    assert "program load failed: Permission denied" in why[1]
    assert lab.log(2).count("the ebpf driver does not start, the nft driver takes its place") == 1
    assert pins() == []
    serves(lab)
    lab.verb("stop", 2)
    lab.env["MESHD"] = MESHD
    lab.verb("start", 2)
    wait_for(lambda: lab.driver(2).startswith("ebpf: "), 30, "n2 to load programs again")
    lab.wait_published(8080)


def test_programs_that_do_not_load_and_must(fresh_lab, tmp_path):
    """--data-plane ebpf: no data plane, and why."""
    lab = fresh_lab(nodes=1, plane="ebpf", images=False, env={"MESHD": no_load(tmp_path)})
    assert re.match(r"none: data plane: driver ebpf does not start: .*Permission denied", lab.driver(1))
    assert "meshd --data-plane auto takes nft instead" in lab.log(1)
