# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service's mesh.* labels and splits do to its traffic.

    client .10 ──┬── n1 .11 (manager) ── tasks
                 ├── n2 .12 ──────────── tasks
                 └── n3 .13 ──────────── tasks
"""
import collections
import itertools
import re
import sys

from conftest import each_plane
from meshlab import IMAGE, KEEPALIVE, MESHCTL, wait_for


def overlay(lab, name, *args):
    lab.meshctl(1, "network", "create", "-d", "overlay", *args, name)


def on_node(k):
    return ["--constraint", f"node.hostname==n{k}"]


def ask(lab, url, n, where=0):
    """host -> how many of n new connections it answered."""
    p = lab.client if not where else lambda *a, **kw: lab.node_exec(where, *a, **kw)
    out = p("sh", "-c", f"for i in $(seq {n}); do curl -sS -m 4 {url} || echo failed; done").stdout
    assert "failed" not in out
    return collections.Counter(re.findall(r"host=(\S+)", out))


def drops(lab, k, reason):
    return int(re.search(rf'mesh_dropped_packets_total{{reason="{reason}"}} (\d+)', lab.raw(k, "GET", "/metrics")[1].decode()).group(1))


def label(lab, service, *pairs):
    lab.meshctl(1, "service", "update", "-d", *[x for p in pairs for x in ("--label-add", p)], service)


def containers(tasks):
    return {t["Status"]["ContainerStatus"]["ContainerID"][:12] for t in tasks}


# ---- labels ----

def test_labels_are_checked(lab):
    for bad, word in (("mesh.publish.return=dsr", "'dsr' is none of tunnel, direct"), ("mesh.nothing=1", "label mesh.nothing: unknown"),
                      ("mesh.publish.sources=10.0.0.0/40", "no IPv4 address or range")):
        p = lab.meshctl(1, "service", "create", "-d", "--name", "bad", "--label", bad, IMAGE, rc=1)
        assert word in p.stderr, p.stderr
    lab.create("--name", "web", "--label", "mesh.affinity=client", IMAGE)
    assert "none of client, none" in lab.meshctl(1, "service", "update", "-d", "--label-add", "mesh.affinity=ip", "web", rc=1).stderr


HEARD_FROM = """
import socket, sys
sniff = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); sniff.bind(("eth0", 3)); sniff.settimeout(2)
for _ in range(5):
    with socket.create_connection((sys.argv[1], 8080), 3) as s:
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n"); assert s.recv(4096).startswith(b"HTTP/1.1 200")
    while True:
        frame, who = sniff.recvfrom(65536)
        if who[2] != 4 and frame[12:14] == b"\\x08\\0" and frame[23] == 6 and frame[34:36] == (8080).to_bytes(2, "big"):
            print(frame[6:12].hex())
            break
"""


@each_plane
def test_direct_return(lab):
    """Answers do not pass the node that was dialled: the client hears another MAC."""
    lab.create("--name", "web", "-p", "8080:8000", *on_node(2), "--label", "mesh.publish.return=direct", IMAGE)
    # A task runs on its node a moment before the others have heard of its port.
    wait_for(lambda: lab.curl(f"http://{lab.addr(1)}:8080/", rc=None, m=1).returncode == 0, 10, "n1 to know the port")
    assert lab.fields(f"http://{lab.addr(1)}:8080/")["client"].split(":")[0] == lab.client_addr
    answers_by = lambda: set(lab.client(sys.executable, "-c", HEARD_FROM, lab.addr(1)).stdout.split())  # MACs
    direct = answers_by()
    label(lab, "web", "mesh.publish.return=tunnel")
    wait_for(lambda: not answers_by() & direct, 10, "answers through the node dialled")


@each_plane
def test_local(lab):
    """prefer: the dialled node's own tasks, while it has any; require: nobody else's."""
    web = lab.create("--name", "web", "--replicas", "2", "-p", "8080:8000", "--constraint", "node.hostname!=n3", "--label",
                     "mesh.publish.local=prefer", IMAGE, n=2)
    by_node = {lab.node_number(t): containers([t]).pop() for t in web}
    assert set(by_node) == {1, 2}
    for k in (1, 2):
        assert set(ask(lab, f"http://{lab.addr(k)}:8080/", 15)) == {by_node[k]}
    assert len(ask(lab, f"http://{lab.addr(3)}:8080/", 40)) == 2
    label(lab, "web", "mesh.publish.local=require")
    wait_for(lambda: lab.curl(f"http://{lab.addr(3)}:8080/", rc=None, m=1).returncode == 28, 15, "n3 to answer nothing")
    for k in (1, 2):
        assert set(ask(lab, f"http://{lab.addr(k)}:8080/", 15)) == {by_node[k]}
    label(lab, "web", "mesh.publish.local=off")
    wait_for(lambda: len(ask(lab, f"http://{lab.addr(1)}:8080/", 20)) == 2, 15, "both to answer on n1")


@each_plane
def test_affinity(lab):
    """A client stays with its task although others come, from outside and from a task; another client may be elsewhere."""
    overlay(lab, "net")
    lab.create("--name", "web", "--network", "net", "-p", "8080:8000", "--label", "mesh.affinity=client", "--label",
               "mesh.affinity.timeout=1h", IMAGE)
    asker = lab.create("--name", "cli", "--network", "net", IMAGE, "sleep", "100000")[0]

    def inside():
        p = lab.exec(asker, "sh", "-c", "for i in $(seq 12); do timeout 4 wget -q -O - http://web:8000/ || echo failed; done")
        assert "failed" not in p.stdout
        return set(re.findall(r"host=(\S+)", p.stdout))
    outside = lambda: set(ask(lab, f"http://{lab.addr(1)}:8080/", 12))
    first = containers(lab.wait_running("web", 1))
    assert outside() == first and inside() == first
    lab.meshctl(1, "service", "scale", "-d", "web=6")
    for _ in range(5):
        assert outside() == first and inside() == first
    lab.wait_running("web", 6)
    assert outside() == first and inside() == first


@each_plane
def test_sources_and_addresses(lab):
    lab.create("--name", "web", "-p", "8080:8000", *on_node(2), "--label", "mesh.publish.sources=203.0.113.0/24", IMAGE)
    before = drops(lab, 1, "source")
    assert lab.curl(f"http://{lab.addr(1)}:8080/", rc=None, m=1).returncode == 28
    assert drops(lab, 1, "source") > before
    assert lab.fields("http://127.0.0.1:8080/", where=1)["version"] == "1"
    label(lab, "web", f"mesh.publish.sources=203.0.113.0/24,{lab.client_addr}")
    wait_for(lambda: lab.curl(f"http://{lab.addr(1)}:8080/", rc=None, m=1).returncode == 0, 10, "the client to be let in")
    label(lab, "web", f"mesh.publish.addresses={lab.addr(2)}")
    wait_for(lambda: lab.curl(f"http://{lab.addr(1)}:8080/", rc=None, m=1).returncode == 7, 10, "n1's address to refuse")
    assert lab.fields(f"http://{lab.addr(2)}:8080/")["version"] == "1"


# ---- splits ----

def split(lab, *args, **kw):
    return lab.meshctl(1, "service", "split", *args, **kw)


def test_split(lab):
    """web's VIP and port: 80 to 20 with the canary, then all to it in one step, under load without a failure, and back."""
    overlay(lab, "net")
    web = lab.create("--name", "web", "--replicas", "2", "--network", "net", "-p", "8080:8000", IMAGE, n=2)
    canary = lab.create("--name", "canary", "--network", "net", "-p", "8000", IMAGE)
    asker = lab.create("--name", "cli", "--network", "net", IMAGE, "sleep", "100000")[0]
    url = f"http://{lab.addr(3)}:8080/"

    def inside(n):
        p = lab.exec(asker, "sh", "-c", f"for i in $(seq {n}); do timeout 4 wget -q -O - http://web:8000/ || echo failed; done")
        assert "failed" not in p.stdout
        return collections.Counter(re.findall(r"host=(\S+)", p.stdout))
    part = lambda c: c[containers(canary).pop()]
    assert "not found" in split(lab, "web=9", "nobody=1", rc=1).stderr
    assert "no split" in split(lab, "web").stdout
    out = split(lab, "web=80", "canary=20").stdout
    assert re.search(r"web +80 +80.0 % over 2 tasks", out) and re.search(r"canary +20 +20.0 % over 1 task\b", out), out
    wait_for(lambda: part(ask(lab, url, 20)) > 0, 10, "the canary to get something")
    assert 6 <= part(ask(lab, url, 120)) <= 46 and 6 <= part(inside(120)) <= 46
    assert "canary" in lab.meshctl(1, "service", "inspect", "--pretty", "web").stdout.split("Split:")[1]
    load = lab.load(*[f"{a}:8080" for a in lab.addresses])
    # connections that stay open keep their task through all of it
    opened = lab.spawn(0, sys.executable, "-c", KEEPALIVE, lab.addr(3), stdin=-1, stdout=-1)
    assert opened.stdout.readline() == "up 3\n"

    def kept():
        opened.stdin.write("\n")
        opened.stdin.flush()
        assert opened.stdout.readline() == "kept\n"

    split(lab, "web=0", "canary=100")
    wait_for(lambda: set(ask(lab, url, 20)) == containers(canary), 10, "everything to go to the canary")
    assert set(ask(lab, url, 60)) == containers(canary) and set(inside(30)) == containers(canary)
    kept()
    split(lab, "--rm", "web")
    wait_for(lambda: not part(ask(lab, url, 20)), 10, "the split to end")
    assert set(ask(lab, url, 60)) == containers(web) and set(inside(40)) == containers(web)
    kept()
    lab.verb("kill", 3)
    lab.verb("start", 3)
    lab.wait_nodes()
    kept()
    result = load.stop()
    assert result["ok"] > 50 and not result["failed"], result
    assert "no split" in split(lab, "web").stdout


def test_split_needs_what_the_service_has(lab):
    overlay(lab, "net")
    lab.create("--name", "web", "--network", "net", "-p", "8080:8000", IMAGE)
    lab.create("--name", "alone", IMAGE)
    lab.create("--name", "inner", "--network", "net", IMAGE)
    assert "service 'alone' is not on network 'net'" in split(lab, "web=1", "alone=1", rc=1).stderr
    assert "--publish-add" in split(lab, "web=1", "inner=1", rc=1).stderr
    assert "is not SERVICE=WEIGHT" in split(lab, "web=1", "inner", rc=1).stderr


# ---- backends that die ----

STUCK = """
import socket, sys, time
host = sys.argv[1]
t = socket.create_connection((host, 8000), 5); t.settimeout(60)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(60); u.connect((host, 8000))
n = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); n.settimeout(0.3)
u.send(b"a"); first = u.recv(2000).decode()
n.sendto(b"a", (host, 8000)); n.recvfrom(2000)
assert t.getpeername() == (host, 8000) and u.getpeername() == (host, 8000), (t.getpeername(), u.getpeername())
print("up", flush=True)
sys.stdin.readline()
begin = time.monotonic()
for name, s in (("tcp", t), ("udp", u)):
    try:
        print(name, s.recv(2000), flush=True)
    except OSError as e:
        print(name, type(e).__name__, flush=True)
begin = time.monotonic()
while True:
    try:
        n.sendto(b"hello", (host, 8000))
        data, who = n.recvfrom(2000)
        assert who == (host, 8000)
        break
    except OSError:
        assert time.monotonic() - begin < 20
print("moved", round(time.monotonic() - begin, 2), flush=True)
u.connect((host, 8000)); u.send(b"again"); print("again", b"said=again" in u.recv(2000), flush=True)
"""


def with_python(*args):
    mounts = [x for d in ("/usr", "/lib", "/lib64") for x in ("--mount", f"type=bind,source={d},target={d},readonly")]
    return [*args, *mounts, "--stop-signal", "SIGKILL", IMAGE, "sleep", "100000"]


@each_plane
def test_sockets_of_a_dead_backend_are_closed(lab):
    """Connected sockets that nobody will ever answer end with an error; a datagram socket goes on with another task."""
    overlay(lab, "net")
    lab.create("--name", "web", "--network", "net", "--publish", "published=8000,target=8000,mode=host", *on_node(2), IMAGE)
    asker = lab.create("--name", "cli", "--network", "net", *on_node(1), *with_python())[0]
    vip = lab.get(1, "/services/web")["Endpoint"]["VirtualIPs"][0]["Addr"].split("/")[0]
    pid = asker["Status"]["ContainerStatus"]["ContainerID"]
    p = lab.spawn(None, MESHCTL, "-H", f"unix://{lab.sock(1)}", "exec", "-i", pid, sys.executable, "-c", STUCK, vip, stdin=-1, stdout=-1)
    assert p.stdout.readline() == "up\n"
    lab.verb("cut", 2)
    try:
        lab.meshctl(1, "service", "update", "-d", "--constraint-rm", "node.hostname==n2", "--constraint-add", "node.hostname==n3", "web")
        out, _ = p.communicate("go\n", timeout=60)
    finally:
        lab.verb("heal", 2)
        lab.wait_nodes()
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines["tcp"] == "ConnectionAbortedError" and lines["udp"] == "ConnectionAbortedError", out
    assert "moved" in lines and lines["again"] == "True", out


# ---- sizes ----

UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 9000))
while True:
    data, who = s.recvfrom(65535)
    s.sendto(data, who)
"""
UDP_SIZES = """
import os, socket, sys
host, port = socket.gethostbyname(sys.argv[1]), int(sys.argv[2])
for size in map(int, sys.argv[3:]):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
    data = os.urandom(size)
    s.sendto(data, (host, port))
    back, who = s.recvfrom(65535)
    assert back == data and who == (host, port), (size, len(back), who)
print("all")
"""


def udp_echo(lab, name, k, *args):
    """A task on node k that sends datagrams back, whatever their size."""
    return lab.create("--name", name, *args, *on_node(k), *with_python()[:-2], sys.executable, "-c", UDP_ECHO)[0]


@each_plane
def test_fragments_follow_their_flow(lab):
    """Datagrams of several packets, there and back: published port on each node, service address, from a task and outside its cgroup."""
    overlay(lab, "net")
    udp_echo(lab, "echo", 2, "--network", "net", "-p", "9000:9000/udp")
    asker = lab.create("--name", "cli", "--network", "net", *on_node(1), *with_python())[0]
    near = lab.create("--name", "near", "--network", "net", *on_node(2), *with_python())[0]
    vip = next(v["Addr"].split("/")[0] for v in lab.get(1, "/services/echo")["Endpoint"]["VirtualIPs"] if v["Addr"].startswith("10.") and
               v["NetworkID"] in [n["Id"] for n in lab.get(1, "/networks") if n["Name"] == "net"])
    sizes = ["100", "1400", "1472", "4000", "20000"]
    ask = lambda run, *where: wait_for(lambda: "all" in run(sys.executable, "-c", UDP_SIZES, *where, *sizes, rc=None).stdout, 15, f"echoes of {where}")
    for k in lab.nodes:
        ask(lab.client, lab.addr(k), "9000")
    for t in (asker, near):
        ask(lambda *a, **kw: lab.exec(t, *a, **kw), vip, "9000")
        ask(lambda *a, **kw: lab.inside(t, *a, **kw), vip, "9000")
        assert "1 packets received" in lab.exec(t, "ping", "-c", "1", "-W", "2", "-s", "4000", vip).stdout


PMTU = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
s.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: always
s.connect((sys.argv[1], 9000)); size = int(sys.argv[2]) - 28
end = time.monotonic() + 5
while s.getsockopt(socket.IPPROTO_IP, 14) != int(sys.argv[3]):  # IP_MTU
    try:
        s.send(b"x" * size)
    except OSError:
        pass
    assert time.monotonic() < end, s.getsockopt(socket.IPPROTO_IP, 14)
    time.sleep(0.05)
s.settimeout(0.3)
try:
    while True:
        s.recv(9000)
except OSError:
    pass
s.settimeout(3)
s.send(b"y" * (int(sys.argv[3]) - 28)); print("fits", len(s.recv(9000)))
"""


@each_plane
def test_mtu_follows_the_underlay(lab):
    """The tunnel takes less than the underlay: clients are told; an underlay that shrinks is followed, also by tasks that run."""
    overlay(lab, "net")
    udp_echo(lab, "echo", 2, "--network", "net", "-p", "9000:9000/udp")
    lab.create("--name", "web", "--network", "net", "-p", "8080:8000", *on_node(3), IMAGE)
    asker = lab.create("--name", "cli", "--network", "net", *on_node(1), *with_python())[0]
    mtu = lambda: lab.exec(asker, "cat", "/sys/class/net/eth0/mtu").stdout.strip()
    assert mtu() == "1450"
    assert "fits 1422" in lab.client(sys.executable, "-c", PMTU, lab.addr(1), "1500", "1450").stdout

    def underlay(size):
        for k in lab.nodes:
            lab.node_exec(k, "ip", "link", "set", "dev", "eth0", "mtu", str(size))
        lab.client("ip", "link", "set", "dev", "eth0", "mtu", str(size))
    try:
        underlay(1300)
        wait_for(lambda: mtu() == "1250", 10, "the task's interface to follow")
        assert "fits 1222" in wait_for(lambda: lab.client(sys.executable, "-c", PMTU, lab.addr(3), "1300", "1250").stdout, 10, "n3 to know")
        for a in lab.addresses:
            assert lab.fields(f"http://{a}:8080/")["version"] == "1"
        assert "all" in lab.exec(asker, sys.executable, "-c", UDP_SIZES, "echo", "9000", "100", "1222", "1250", "5000").stdout
        p = lab.exec(asker, "sh", "-c", "timeout 5 wget -q -O - http://web:8000/")
        assert "version=1" in p.stdout
    finally:
        underlay(1500)
    wait_for(lambda: mtu() == "1450", 10, "the task's interface to grow again")


CLOSING = """
import socket, time
t = socket.socket(); t.bind(("0.0.0.0", 9000)); t.listen()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 9000))
while True:
    data, who = s.recvfrom(2000); s.sendto(data, who)
    if data == b"close":
        break
s.close()
time.sleep(100000)
"""
REFUSED = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); s.connect((sys.argv[1], 9000))
if sys.argv[2:]:
    s.send(b"close")
    try:
        assert s.recv(100) == b"close"
    except ConnectionRefusedError:
        pass  # an earlier attempt closed it
for _ in range(2):
    try:
        s.send(b"hello"); print("heard", s.recv(100))
    except ConnectionRefusedError:
        print("refused"); break
"""


@each_plane
def test_port_unreachable_reaches_the_client(lab):
    """A task that closed its socket says so: to a client outside through either node, and to a task that dialled the service."""
    overlay(lab, "net")
    web = lab.create("--name", "web", "--network", "net", "-p", "9000:9000/udp", *on_node(2), *with_python()[:-2], sys.executable, "-c", CLOSING)[0]
    # Not before it listens: its kernel says only so many times a second that nobody does.
    wait_for(lambda: ":2328 " in lab.exec(web, "cat", "/proc/net/udp").stdout, 10, "the task to listen on 9000")
    asker = lab.create("--name", "cli", "--network", "net", *on_node(1), *with_python())[0]
    close = ["close"]
    for a in lab.addresses:
        out = wait_for(lambda: lab.client(sys.executable, "-c", REFUSED, a, *close, rc=None).stdout, 10, f"an answer through {a}")
        assert out == "refused\n", (a, out)
        close = []
    assert lab.exec(asker, sys.executable, "-c", REFUSED, "web").stdout == "refused\n"


ERROR = """
import socket, struct, sys
kind, node, dialled, mtu = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM); s.settimeout(10); s.connect((node, dialled))
s.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); assert s.recv(4096)
me, port, seq = *s.getsockname(), 0
if kind == "tcp":  # what the task is to send next: asked of our own end
    s.setsockopt(6, 19, 1); s.setsockopt(6, 20, 1); seq = s.getsockopt(6, 21) & 0xffffffff; s.setsockopt(6, 19, -1)
def sum16(b):
    n = sum(struct.unpack(f"!{len(b) // 2}H", b)); n = (n >> 16) + (n & 0xffff); return ~(n + (n >> 16)) & 0xffff
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1450, 7, 1 << 14, 60, 6 if kind == "tcp" else 17, 0, socket.inet_aton(node), socket.inet_aton(me))
quoted = head[:10] + struct.pack("!H", sum16(head)) + head[12:] + struct.pack("!HHI", dialled, port, seq if kind == "tcp" else 1430 << 16)
icmp = lambda check: struct.pack("!BBHHH", 3, 4, check, 0, mtu) + quoted
socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).sendto(icmp(sum16(icmp(0))), (node, 0))
"""


@each_plane
def test_a_client_s_path_that_takes_less(lab):
    """A router before the client says "fragmentation needed" to the node it dialled: the task hears of it, through any node."""
    for on in (1, 2):
        dialled = 8000 + on
        web = lab.create("--name", f"web{on}", "-p", f"{dialled}:8000", "-p", f"{dialled}:8000/udp", *on_node(on), IMAGE)[0]
        lab.wait_published(dialled)
        mtu = 1400
        for kind, k in itertools.product(("udp", "tcp"), lab.nodes):
            mtu -= 20
            lab.client(sys.executable, "-c", ERROR, kind, lab.addr(k), str(dialled), str(mtu))
            wait_for(lambda: f" mtu {mtu} " in lab.inside(web, "ip", "route", "get", lab.client_addr).stdout + " ", 5,
                     f"the task on n{on} to know what n{k} was told about {kind}")


# ---- who tries to cross ----

CROSS = """
import socket, struct, sys
how, me, mac, gwmac, dst, node, vni, inner_src, inner_dst = sys.argv[1:10]
b = lambda m: bytes(int(x, 16) for x in m.split(":"))
def ip(src, dst, proto, body):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 7, 0, 64, proto, 0, socket.inet_aton(src), socket.inet_aton(dst))
    s = sum(struct.unpack("!10H", head)); s = (s >> 16) + (s & 0xffff); s += s >> 16
    return head[:10] + struct.pack("!H", ~s & 0xffff) + head[12:] + body
udp = lambda sport, dport, data: struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
mac_of = lambda a: b"\\x02\\x42" + socket.inet_aton(a)
inner = mac_of(inner_dst) + mac_of(inner_src) + b"\\x08\\0" + ip(inner_src, inner_dst, 17, udp(5, 7777, b"crossed"))
vxlan = struct.pack("!II", 1 << 27, int(vni) << 8) + inner
if how == "stranger":
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(vxlan, (node, 4789))
    sys.exit()
src, smac, data = me, mac, ip(me, dst, 17, udp(5, 7777, b"crossed"))
if how == "address":
    data = ip(inner_src, dst, 17, udp(5, 7777, b"crossed"))
elif how == "mac":
    smac = "02:42:01:02:03:04"
elif how == "vni":
    data = ip(me, node, 17, udp(5, 4789, vxlan))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
s.send(b(gwmac) + b(smac) + b"\\x08\\0" + data)
"""
HEAR = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7777)); s.settimeout(60); print("up", flush=True)
while True:
    print("heard", s.recvfrom(2000), flush=True)
"""


@each_plane
def test_nobody_crosses(lab):
    """Whatever a task or a stranger makes up ends in a drop of its own reason, and the others hear nothing."""
    overlay(lab, "n-a")
    overlay(lab, "n-b")
    sleeper = lambda name, net, k: lab.create("--name", name, "--network", net, *on_node(k), "--stop-signal", "SIGKILL", IMAGE, "sleep", "1000")[0]
    me, friend, victim = sleeper("me", "n-a", 1), sleeper("friend", "n-a", 2), sleeper("victim", "n-b", 2)
    neighbour = sleeper("neighbour", "n-b", 1)
    addr = lambda t: t["NetworksAttachments"][0]["Addresses"][0].split("/")[0]
    mac = lambda a: "02:42:" + ":".join(f"{int(x):02x}" for x in a.split("."))
    vni = lab.get(1, "/networks/n-b")["Options"]["com.docker.network.driver.overlay.vxlanid_list"]
    gateway = lab.exec(me, "ip", "route").stdout.split("via ")[1].split()[0]
    hearing = []
    for t in (friend, victim):
        p = lab.spawn(None, "nsenter", "-t", str(t["Status"]["ContainerStatus"]["PID"]), "-n", sys.executable, "-c", HEAR, stdout=-1)
        assert p.stdout.readline() == "up\n"
        hearing.append(p)
    send = lambda run, how, dst: run(sys.executable, "-c", CROSS, how, addr(me), mac(addr(me)), mac(gateway), dst, lab.addr(2), vni, addr(neighbour),
                                     addr(victim))
    inside = lambda *a: lab.inside(me, *a)
    for how, dst, k, reason in (("address", addr(friend), 1, "spoof"), ("mac", addr(friend), 1, "spoof"), ("network", addr(victim), 1, "isolated"),
                                ("vni", addr(friend), 1, "tunnel_port")):
        before = drops(lab, k, reason)
        send(inside, how, dst)
        wait_for(lambda: drops(lab, k, reason) > before, 5, f"{how} to be dropped as {reason}")
    before = drops(lab, 2, "unknown_node")
    send(lab.client, "stranger", "0.0.0.0")
    wait_for(lambda: drops(lab, 2, "unknown_node") > before, 5, "a stranger's tunnel to be dropped")
    send(inside, "honest", addr(friend))
    assert "crossed" in hearing[0].stdout.readline()
    for p in hearing:
        p.kill()
    assert [p.stdout.read() for p in hearing] == ["", ""]


# ---- ports ----

MANY = """
import socket, sys
host, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for port in range(first, last + 1):
    with socket.create_connection((host, port), 5) as s:
        s.settimeout(5)
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200"), port
print("all")
"""


LISTEN = """
import select, socket
poll, socks = select.poll(), {}
for kind, ports in ((socket.SOCK_STREAM, range(8000, 8011)), (socket.SOCK_DGRAM, range(8100, 8105))):
    for port in ports:
        s = socket.socket(socket.AF_INET, kind); s.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            s.listen()
        socks[s.fileno()] = (s, kind, port); poll.register(s, select.POLLIN)
while True:
    for fd, _ in poll.poll():
        s, kind, port = socks[fd]
        if kind == socket.SOCK_STREAM:
            c, _ = s.accept(); c.sendall(b"%d" % port); c.close()
        else:
            s.sendto(b"%d" % port, s.recvfrom(2000)[1])
"""
ASK_PORTS = """
import socket, sys
for port in range(8000, 8011):
    with socket.create_connection((sys.argv[1], port), 5) as s:
        assert s.recv(100) == b"%d" % port, port
for port in range(8100, 8105):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); s.sendto(b"x", (sys.argv[1], port))
    assert s.recv(100) == b"%d" % port, port
print("all")
"""


@each_plane
def test_port_ranges(lab, cli):
    """Ranges, several and of both protocols, each port to its own; lengths that differ are refused."""
    lab.create("--name", "web", "-p", "8000-8010:8000-8010", "-p", "8100-8104:8100-8104/udp", *on_node(2), *with_python()[:-2], sys.executable,
               "-c", LISTEN, cli=lambda *a: cli(lab, *a))
    ports = lab.get(1, "/services/web")["Endpoint"]["Ports"]
    assert {(p["PublishedPort"], p["TargetPort"], p["Protocol"]) for p in ports} == {(p, p, "tcp") for p in range(8000, 8011)} | {
        (p, p, "udp") for p in range(8100, 8105)}
    for a in lab.addresses:
        assert "all" in wait_for(lambda: lab.client(sys.executable, "-c", ASK_PORTS, a, rc=None).stdout, 10, f"all ports of {a}")
    assert "range" in cli(lab, 1, "service", "create", "-d", "--name", "bad", "-p", "8200-8203:80-81", IMAGE, rc=None).stderr.lower()
    assert "already in use by service 'web'" in cli(lab, 1, "service", "create", "-d", "--name", "other", "-p", "8005-8020:8005-8020", IMAGE, rc=1).stderr


def test_five_hundred_ports(lab):
    """300 on one service and 200 over four, on every node, and gone again; automatic ones beside them."""
    lab.create("--name", "big", *[x for p in range(10000, 10300) for x in ("-p", f"{p}:8000")], *on_node(2), IMAGE)
    for i in range(4):
        lab.create("--name", f"s{i}", *[x for p in range(11000 + 50 * i, 11050 + 50 * i) for x in ("-p", f"{p}:8000")], *on_node(1 + i % 3), IMAGE)
    lab.create("--name", "auto", "-p", "8000", "-p", "8000/udp", IMAGE)
    auto = {p["PublishedPort"] for p in lab.get(1, "/services/auto")["Endpoint"]["Ports"]}
    assert all(30000 <= p <= 32767 for p in auto)
    for a in lab.addresses:
        for first, last in ((10000, 10299), (11000, 11199)):
            assert "all" in wait_for(lambda: lab.client(sys.executable, "-c", MANY, a, str(first), str(last), rc=None).stdout, 20, f"ports of {a}")
    lab.meshctl(1, "service", "rm", "big", "s0", "s1", "s2", "s3")
    for a in lab.addresses:
        wait_for(lambda: lab.curl(f"http://{a}:10299/", rc=None, m=1).returncode == 7, 20, f"{a} to refuse")


def test_sctp_is_refused(lab, cli):
    p = cli(lab, 1, "service", "create", "-d", "--name", "s", "-p", "9000:9000/sctp", IMAGE, rc=1)
    assert "sctp" in p.stderr.lower() and "tcp and udp" in p.stderr.lower()
