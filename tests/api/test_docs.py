# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/features.md says which test shows is there to be run."""
import glob
import os
import re
import subprocess

from meshlab import MESHCTL, MESHD, ROOT


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


def helps(argv):
    """What a verb says of itself; None: there is no such verb."""
    p = subprocess.run([*argv, "--help"], capture_output=True, text=True)
    return p.stdout if p.returncode == 0 and "Usage" in p.stdout else None


def test_commands_of_the_docs_exist():
    """Every command that a page shows: its verb is there, and each of its flags in what the verb says of itself."""
    wrong, seen = [], 0
    for page in ("README.md", "docs/guide.md", "docs/stacks.md", "docs/seeing.md", "docs/architecture.md"):
        text = open(os.path.join(ROOT, page), encoding="utf-8").read()
        blocks = re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
        shown = re.findall(r"`((?:meshctl|meshd) [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        for line in "\n".join(blocks).splitlines():
            shown += [c for c in re.split(r"\s{3,}|#", line) if re.match(r"\s*(meshctl|meshd) ", c)]
        for command in shown:
            words = command.split(" -- ")[0].replace("[", " ").replace("]", " ").split()
            binary, verbs = (MESHCTL if words[0] == "meshctl" else MESHD), []
            while words[0] == "meshctl" and len(verbs) < 2 and len(words) > len(verbs) + 1 and re.fullmatch("[a-z-]+", words[len(verbs) + 1]) \
                    and helps([binary, *verbs, words[len(verbs) + 1]]):
                verbs.append(words[len(verbs) + 1])
            said = helps([binary, *verbs]) if verbs or words[0] == "meshd" else None
            if "COMMAND" in words:
                continue
            seen += 1
            if said is None:
                wrong.append(f"{page}: {command}: no such verb")
                continue
            for flag in (re.match(r"--?[a-zA-Z][a-z-]*", w) for w in words[1:]):
                if flag and not re.search(rf"(?<![\w-]){flag[0]}(?![\w-])", said + helps([binary])):
                    wrong.append(f"{page}: {command}: {flag[0]} is not a flag")
    assert not wrong and seen > 60, (seen, wrong)
