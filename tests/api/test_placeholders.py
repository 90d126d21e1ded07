# SPDX-License-Identifier: GPL-2.0-or-later
"""Go templates in what a task is given: host name, environment, mounts, aliases, and configs and secrets made with
--template-driver golang, which may quote the task's environment, secrets and configs.
"""
from meshlab import IMAGE, wait_for

TEXT = """svc={{.Service.Name}} slot={{.Task.Slot}} tier={{index .Service.Labels "tier"}}
{{with env "A"}}A={{.}}{{end}} pw={{secret "pw"}} plain={{config "plain"}}
{{if eq .Node.Hostname "n1"}}first{{else}}other{{end}}
"""


def test_placeholders_of_a_task(lab):
    lab.docker(1, "network", "create", "-d", "overlay", "net")
    tasks = lab.create("--name", "web", "--replicas", "2", "--hostname", "{{.Service.Name}}-{{.Task.Slot}}", "-e",
                       "ON={{.Node.Hostname}}/{{.Node.Platform.OS}}", "--mount", "type=volume,src=data-{{.Task.Slot}},dst=/d{{.Task.Slot}}",
                       "--network", "name=net,alias=all-{{.Service.Name}},alias=only-{{.Task.Slot}}", IMAGE, n=2, cli=lab.docker)
    for t in tasks:
        slot = t["Slot"]
        assert lab.exec(t, "sh", "-c", f"hostname; echo $ON; mount | grep -c ' /d{slot} '").stdout.split() == [
            f"web-{slot}", f"n{lab.node_number(t)}/linux", "1"]
        volumes = lab.docker(lab.node_number(t), "volume", "ls", "-q").stdout.split()
        assert f"data-{slot}" in volumes
        address = [a["Addresses"][0].split("/")[0] for a in t["NetworksAttachments"] if a["Network"]["Spec"]["Name"] == "net"]
        look = lambda name, t=t: lab.exec(t, "nslookup", f"{name}.", rc=None).stdout
        wait_for(lambda: f"Address: {address[0]}\n" in look(f"only-{slot}"), what=f"the alias of web.{slot}")
        vip = [v["Addr"].split("/")[0] for v in lab.get(1, "/services/web")["Endpoint"]["VirtualIPs"]]
        assert f"Address: {vip[0]}\n" in look("all-web")


def test_configs_and_secrets_from_templates(lab):
    lab.docker(1, "config", "create", "plain", "-", stdin="kept {{as}} is")
    lab.docker(1, "secret", "create", "pw", "-", stdin="hunter2")
    lab.docker(1, "config", "create", "--template-driver", "golang", "tpl", "-", stdin=TEXT)
    lab.docker(1, "secret", "create", "--template-driver", "golang", "url", "-", stdin='db://u:{{secret "pw"}}@{{env "A"}}')
    t, = lab.create("--name", "web", "-l", "tier=gold", "-e", "A=1", "--secret", "pw", "--secret", "url", "--config", "plain", "--config",
                    "source=tpl,target=/etc/app.conf,uid=5,gid=6,mode=0440", "--constraint", "node.hostname==n1", IMAGE, cli=lab.docker)
    assert lab.exec(t, "cat", "/etc/app.conf").stdout == \
        "svc=web slot=1 tier=gold\nA=1 pw=hunter2 plain=kept {{as}} is\nfirst\n"
    assert lab.exec(t, "cat", "/run/secrets/url").stdout == "db://u:hunter2@1"
    assert lab.exec(t, "stat", "-c", "%u %g %a", "/etc/app.conf").stdout == "5 6 440\n"
    lab.docker(1, "config", "create", "--template-driver", "golang", "bad", "-", stdin='{{secret "other"}}')
    lab.docker(1, "service", "create", "-q", "-d", "--name", "bad", "--restart-condition", "none", "--config", "bad", IMAGE)
    said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks("bad") if t["Status"].get("Err")], what="the task to be refused")
    assert "config bad" in said[0] and "secret target other not found" in said[0]


def test_what_cannot_be_filled_in_is_refused(lab):
    for argv, text in [(["--hostname", "{{.Nope}}"], "expanding hostname failed"), (["-e", "A={{.Task.Slot"], "expanding env failed"),
                       (["--mount", "type=volume,src={{.Odd}},dst=/v"], "expanding mounts failed"),
                       (["--hostname", '{{secret "pw"}}'], 'function "secret" not defined'),
                       (["--hostname", "{{.Service.Labels.none}}"], 'there is no field "none"')]:
        p = lab.docker(1, "service", "create", "-q", "-d", "--name", "no", *argv, IMAGE, rc=1)
        assert text in p.stderr, p.stderr
