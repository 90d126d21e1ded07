# SPDX-License-Identifier: GPL-2.0-or-later
"""Stack files that want to hurt, through the program itself: an error in words, in less than a second of CPU and in 64 MiB
of address space, libraries included. (What each is refused for, in the parser: tests/golden/test_compose.c.)
"""
import os
import subprocess

import pytest

from meshlab import MESHCTL

KIB = 64 << 10
WEB = "services: {web: {image: x}}\n"


def powers(first, line):
    return first + "".join(line(i) for i in range(1, 12)) + WEB


HOSTILE = {
    "alias bomb": (powers("x-0: &a0 [1,1,1,1,1,1,1,1,1,1]\n", lambda i: f"x-{i}: &a{i} [{','.join(['*a%d' % (i - 1)] * 10)}]\n"),
                   "more than 100000 values"),
    "text bomb": ("x-a: &a '" + "0123456789" * 10000 + "'\nx-b: [" + "*a," * 5000 + "]\n", "more than 16 MiB of text"),
    "merge bomb": (powers("x-0: &a0 {k0: v}\n", lambda i: f"x-{i}: &a{i} {{k{i}: [{','.join(['*a%d' % (i - 1)] * 10)}], <<: *a{i - 1}}}\n"),
                   "more than 100000 values"),
    "cycle": ("x-a: &a [*a]\n" + WEB, "anchor 'a' value contains itself"),
    "cycle through a merge": ("services:\n  a: &a\n    <<: *a\n    image: x\n", "anchor 'a' value contains itself"),
    "deep lists": ("x-a: " + "[" * 900_000 + "]" * 900_000, "nested deeper than 64 levels"),
    "deep mappings": ("x-a: " + "{a: " * 500_000, "nested deeper than 64 levels"),
    "deep dashes": ("x-a:\n" + "- " * 900_000 + "a", "nested deeper than 64 levels"),
    "deep variables": ("services: {web: {image: '" + "${A:-" * 300_000 + "}" * 300_000 + "'}}", "invalid interpolation format"),
    "variables that grow": ("services: {web: {image: '" + "${LONG}" * 250_000 + "'}}", "more than 16 MiB of text"),
    "10 MB of one text": ("services: {web: {image: '" + "x" * 10_000_000 + "'}}", "larger than 2048 KiB"),
    "10 MB of services": ("services:\n" + "".join(f"  s{i}: {{image: x}}\n" for i in range(500_000)), "larger than 2048 KiB"),
    "10 MB of nothing": ("#" + "x" * 10_000_000 + "\n" + WEB, "larger than 2048 KiB"),
    "2 MB of keys": (WEB + "x-a: {" + ",".join(f"k{i}: v" for i in range(150_000)) + "}", "more than 5000 keys in one mapping"),
    "ports without end": ("services: {web: {image: x, ports: [" + ",".join(["1-65535:1-65535"] * 1000) + "]}}", "ports"),
}


def limited(env, *argv):
    """The program in so much address space, and the CPU seconds it took."""
    before = os.times()
    p = subprocess.run(["sh", "-c", f'ulimit -v {KIB} && ulimit -t 10 && exec "$@"', "sh", MESHCTL, *argv], env=env,
                       capture_output=True, text=True, timeout=60)
    after = os.times()
    return p, after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.parametrize("verb", ["config", "deploy"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(tmp_path, name, verb):
    text, words = HOSTILE[name]
    path = tmp_path / "hostile.yml"
    path.write_text(text)
    env = dict(os.environ, LONG="y" * 1000, DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")
    env.pop("A", None)
    p, seconds = limited(env, "stack", verb, "-c", str(path), *(["st"] if verb == "deploy" else []))
    assert p.returncode == 1 and p.stdout == "", (p.returncode, p.stderr[-200:])
    assert words in p.stderr and str(path) in p.stderr and len(p.stderr) < 1000, p.stderr[-400:]
    assert seconds < 1


def test_a_big_file_that_means_well(tmp_path):
    """The bounds are not so tight that they hit what people write."""
    path = tmp_path / "big.yml"
    path.write_text("services:\n" + "".join(f"  s{i}: {{image: x, environment: {{A: '{'y' * 300}'}}}}\n" for i in range(3000)))
    p, seconds = limited(None, "stack", "config", "-c", str(path))
    assert p.returncode == 0 and p.stdout.count("image: x") == 3000, p.stderr[-200:]
    assert seconds < 10
