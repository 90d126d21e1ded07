# SPDX-License-Identifier: GPL-2.0-or-later
"""Named volumes of a node: through the docker client and through meshctl, and as services use them."""
import json

from meshlab import IMAGE, wait_for


def names(cli, lab, *args):
    return cli(lab, 1, "volume", "ls", "-q", *args).stdout.split()


def test_life_of_a_volume(lab, cli):
    lab_args = ("--label", "tier=gold", "--label", "team=a")
    assert cli(lab, 1, "volume", "create", *lab_args, "vol-a").stdout == "vol-a\n"
    cli(lab, 1, "volume", "create", "vol-b")
    try:
        assert {"vol-a", "vol-b"} <= set(names(cli, lab))
        assert names(cli, lab, "--filter", "label=tier=gold") == ["vol-a"]
        assert names(cli, lab, "--filter", "label=tier=lead") == []
        assert names(cli, lab, "--filter", "name=vol-b") == ["vol-b"]
        v = json.loads(cli(lab, 1, "volume", "inspect", "vol-a").stdout)[0]
        assert (v["Driver"], v["Labels"]["team"], v["Scope"]) == ("local", "a", "local")
        assert v["Mountpoint"].endswith("/volumes/vol-a/_data")
        # Prune takes what has no name; named ones only with --all.
        cli(lab, 1, "volume", "prune", "-f")
        assert {"vol-a", "vol-b"} <= set(names(cli, lab))
        out = cli(lab, 1, "volume", "prune", "-f", "--all", "--filter", "label=tier=gold").stdout
        assert out.splitlines()[:2] == ["Deleted Volumes:", "vol-a"]
        assert out.splitlines()[-1].startswith("Total reclaimed space: ")
        assert names(cli, lab, "--filter", "name=vol-") == ["vol-b"]
    finally:
        for v in ("vol-a", "vol-b"):
            cli(lab, 1, "volume", "rm", "-f", v, rc=None)
    p = cli(lab, 1, "volume", "inspect", "vol-a", rc=None)
    assert p.returncode == 1 and "no such volume" in p.stderr


def test_a_task_makes_and_holds_its_volume(lab):
    host = lab.docker(1, "node", "inspect", "self", "--format", "{{.Description.Hostname}}").stdout.strip()
    lab.docker(1, "service", "create", "-d", "--name", "keeper", "--constraint", f"node.hostname=={host}", "--mount",
               "type=volume,source=kept,target=/data,volume-label=made=by-task", IMAGE)
    try:
        wait_for(lambda: "kept" in lab.docker(1, "volume", "ls", "-q", "--filter", "label=made=by-task").stdout.split(),
                 what="the volume of the task")
        cid = wait_for(lambda: lab.docker(1, "ps", "-q", "--no-trunc").stdout.split(), what="the container")[0]
        p = lab.docker(1, "volume", "rm", "kept", rc=None)
        assert p.returncode == 1
        assert f"remove kept: volume is in use - [{cid}]" in p.stderr
        lab.docker(1, "volume", "prune", "-f", "--all")
        assert "kept" in lab.docker(1, "volume", "ls", "-q").stdout.split()
        assert lab.docker(1, "volume", "ls", "-q", "--filter", "dangling=true").stdout.split() == []
    finally:
        lab.docker(1, "service", "rm", "keeper")
    wait_for(lambda: lab.docker(1, "volume", "rm", "kept", rc=None).returncode == 0, what="the volume to be free")
