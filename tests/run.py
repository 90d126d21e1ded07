#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the test rings, cheapest first, and prints `N passed, N failed, N skipped`.

  tests/run.py [--build DIR] [-k WORD] [RING ...]     rings: unit golden sim bpf fuzz netns api
  WORD: part of a C test's path; for netns and api what pytest's -k takes, or a file of the ring (test_mesh.py)
"""
import argparse
import glob
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
C_RINGS = ["unit", "golden", "sim", "bpf", "fuzz"]
PY_RINGS = ["netns", "api"]


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures, self.skips = [], []

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def run_c(path, tally, timeout):
    """One cmocka program; its TAP lines are the truth, a crash or a hang is a failure."""
    name = os.path.relpath(path, ROOT)
    if not os.path.exists(path):
        tally.add(0, 1, 0)
        tally.failures.append(f"{name}: was not built")
        return
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
    start = time.monotonic()
    try:
        p = subprocess.run([path], env=env, cwd=ROOT, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, rc = p.stdout.decode(errors="replace"), p.returncode
    except subprocess.TimeoutExpired as e:
        out, rc = (e.stdout or b"").decode(errors="replace"), "timeout"
    ok = bad = skip = 0
    for line in out.splitlines():
        if re.match(r"ok \d+.*# *SKIP", line, re.I):
            skip += 1
            tally.skips.append(f"{name}: {line}")
        elif re.match(r"ok \d+", line):
            ok += 1
        elif re.match(r"not ok \d+", line):
            bad += 1
            tally.failures.append(f"{name}: {line}")
    if rc != 0 and not bad:
        bad = 1
        tally.failures.append(f"{name}: ended with {rc}")
    tally.add(ok, bad, skip)
    print(f"  {'ok  ' if not bad else 'FAIL'} {name}  {ok} passed, {bad} failed, {skip} skipped  {time.monotonic() - start:.1f} s",
          flush=True)
    if bad:
        print("\n".join("      " + l for l in out.splitlines()[-60:]), flush=True)


def run_pytest(ring, build, word, tally):
    directory = os.path.join(ROOT, "tests", ring)
    if not glob.glob(os.path.join(directory, "test_*.py")):
        return
    report = os.path.join(build, f"report-{ring}.xml")
    cmd = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}"]
    cmd += [os.path.join(directory, word) if word.endswith(".py") else directory]
    if word and not word.endswith(".py"):
        cmd += ["-k", word]
    env = dict(os.environ, MESH_BUILD=os.path.abspath(build), PYTHONDONTWRITEBYTECODE="1")
    rc = subprocess.run(cmd, cwd=ROOT, env=env).returncode
    if rc == 5:
        return
    if rc not in (0, 1):
        tally.add(0, 1, 0)
        tally.failures.append(f"tests/{ring}: pytest ended with {rc}")
        return
    try:
        suite = ET.parse(report).getroot().find("testsuite")
    except (OSError, ET.ParseError):
        tally.add(0, 1, 0)
        tally.failures.append(f"tests/{ring}: pytest ended with {rc} and left no report")
        return
    total, failed, skipped = (int(suite.get(k, 0)) for k in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", 0))
    tally.add(total - failed - skipped, failed, skipped)
    for case in suite.iter("testcase"):
        where = f"tests/{ring}: {case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failures.append(where)
        skip = case.find("skipped")
        if skip is not None:
            tally.skips.append(f"{where}: {skip.get('message')}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("-k", dest="word", default="")
    ap.add_argument("rings", nargs="*")
    a = ap.parse_args()
    rings = a.rings or C_RINGS + PY_RINGS
    tally = Tally()
    start = time.monotonic()
    for ring in rings:
        print(f"== {ring}", flush=True)
        if ring in C_RINGS:
            for src in sorted(glob.glob(os.path.join(ROOT, "tests", ring, "test_*.c"))):
                if a.word and a.word not in src:
                    continue
                run_c(os.path.abspath(os.path.join(a.build, os.path.relpath(src, ROOT)[:-2])), tally, 300)
        elif ring in PY_RINGS:
            run_pytest(ring, a.build, a.word, tally)
        else:
            sys.exit(f"tests/run.py: no ring named '{ring}'")
    for line in tally.skips:
        print("skipped:", line)
    for line in tally.failures:
        print("failed:", line)
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
