# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/features.md says which test shows is there to be run."""
import glob
import os
import re

from meshlab import ROOT


def test_tests_that_are_named_exist():
    text = open(os.path.join(ROOT, "docs", "features.md"), encoding="utf-8").read()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    named = {word for row in rows for word in re.findall(r"`([a-z_]+)`", row.split("|")[-2])}
    files = glob.glob(os.path.join(ROOT, "tests", "*", "**", "*.[chp]*"), recursive=True)
    there = {os.path.splitext(os.path.basename(f))[0] for f in files}
    for f in files:
        if f.endswith((".c", ".h", ".py")):
            there |= set(re.findall(r"^(?:def|static void) (\w+)\(", open(f, encoding="utf-8", errors="replace").read(), re.M))
    assert len(named) > 60 and named - there == set()
