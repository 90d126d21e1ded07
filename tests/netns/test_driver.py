# SPDX-License-Identifier: GPL-2.0-or-later
"""Which driver nodes run when nobody says which, and their kernels have no bpf().

    client .10 ──┬── n1 .11 (manager)
                 └── n2 .12
"""
import re
import sys

from meshlab import IMAGE, MESHD, SUPPORT


def test_a_kernel_without_bpf_gets_nft(fresh_lab, tmp_path):
    """Chosen, said once in the log and by node inspect, with the reason; and it works."""
    wrapper = tmp_path / "meshd"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} {SUPPORT}/no_bpf.py {MESHD} "$@"\n')
    wrapper.chmod(0o755)
    lab = fresh_lab(nodes=2, env={"MESHD": str(wrapper)})
    for k in lab.nodes:
        said = lab.driver(k)
        why = re.match(r"nft: no eBPF \((.*?)\); cannot ", said)
        assert why and "bpf() system call" in why[1], said
        assert lab.log(k).count("data plane is up") == 1 and lab.log(k).count(f'data plane is up driver="{said}"') == 1
    lab.create("--name", "web", "--constraint", "node.hostname==n2", "-p", "8080:8000", IMAGE)
    lab.wait_published(8080)
    for a in lab.addresses:
        assert lab.fields(f"http://{a}:8080/")["client"].split(":")[0] == lab.client_addr
