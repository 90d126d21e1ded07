# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of a registry that asks who one is: credentials forwarded to the nodes, digests pinned, tags that move.

    every node: docker-registry on its 127.0.0.1:5000, all over the same files
"""
import base64
import json
import os
import shutil
import subprocess

import pytest

from meshlab import IMAGE, IMAGE2, IMAGES, wait_for

CONFIG = """version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {0}/images}}}}
http: {{addr: "127.0.0.1:5000"}}
auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}
"""
BCRYPT = "$2b$04$GhPthcHK4zai4et6jfEkZ.Ty/iJ/Oc94L4p1PhyQB/v0DmSBKFhZ2"  # of "pw"
NAME = "127.0.0.1:5000/team/app:1"
STACK = f"services: {{web: {{image: '{NAME}', deploy: {{mode: global}}}}}}"


@pytest.fixture
def registry(lab, tmp_path):
    """push(image): to NAME; the client's configuration knows the password."""
    if not shutil.which("docker-registry"):
        pytest.skip("probed for docker-registry: not installed")
    (tmp_path / "htpasswd").write_text("user:" + BCRYPT + "\n")
    (tmp_path / "config.yml").write_text(CONFIG.format(tmp_path))
    for k in lab.nodes:
        lab.spawn(k, "docker-registry", "serve", str(tmp_path / "config.yml"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: lab.curl("http://127.0.0.1:5000/v2/", where=k, rc=None).returncode == 0, 30, f"the registry on n{k}")
    # The client's, and that of whoever runs meshd: daemons were started with these two variables as well, and shall not use it.
    logins = [os.path.join(lab.config, name) for name in ("config.json", ".docker/config.json")]
    os.makedirs(os.path.dirname(logins[1]), exist_ok=True)
    for login in logins:
        with open(login, "w") as f:
            json.dump({"auths": {"127.0.0.1:5000": {"auth": base64.b64encode(b"user:pw").decode()}}}, f)

    def push(image):
        lab.node_exec(1, "skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "user:pw", f"docker-archive:{IMAGES}:{image}",
                      f"docker://{NAME}")
    yield push
    for login in logins:
        os.unlink(login)
    lab.meshctl(1, "stack", "rm", "st", rc=None, timeout=150)
    wait_for(lambda: not lab.tasks(), 30, "the tasks to go")
    for k in lab.nodes:
        lab.docker(k, "rmi", "-f", NAME, rc=None)


def deploy(lab, cli, *flags):
    return cli(lab, 1, "stack", "deploy", "-c", "-", *flags, "st", stdin=STACK, timeout=120)


def image_of(lab):
    return lab.get(1, "/services/st_web")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]


def test_credentials_reach_the_nodes_and_tags_move(lab, cli, registry):
    registry(IMAGE)
    deploy(lab, cli, "--resolve-image", "never")
    assert image_of(lab) == NAME
    said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks("st_web") if t["Status"].get("Err")], 40, "a node to be refused")
    assert said[0] == f"pull access denied for {NAME}: unauthorized: authentication required"
    deploy(lab, cli, "--resolve-image", "always", "--with-registry-auth")
    lab.wait_running("st_web", 3)
    first = image_of(lab)
    assert first.startswith(NAME + "@sha256:")
    assert "pw" not in json.dumps(lab.get(1, "/services/st_web"))
    # The same image under the name it was loaded by is of no registry, and none is asked.
    assert lab.get(1, f"/distribution/{IMAGE}/json")["Descriptor"]["digest"] == lab.get(1, f"/images/{IMAGE}/json")["Id"]

    registry(IMAGE2)  # under the same tag
    before = {t["ID"] for t in lab.running("st_web")}
    deploy(lab, cli, "--resolve-image", "changed", "--with-registry-auth")
    assert image_of(lab) == first and {t["ID"] for t in lab.wait_running("st_web", 3)} == before
    deploy(lab, cli, "--with-registry-auth", "--detach=false")
    assert image_of(lab) != first and image_of(lab).startswith(NAME + "@sha256:")
    now = lab.wait_running("st_web", 3)
    assert not before & {t["ID"] for t in now}
    assert "version=2" in lab.exec(now[0], "wget", "-q", "-O", "-", "http://127.0.0.1:8000/").stdout
