#!/usr/bin/env python3
"""What no compiler checks: who may include whom, library headers that stay home, length of files, how a process ends,
words of unfinished work.

    check.py ROOT      checks the tree, one line a finding; exit 1 when there is one
    check.py --self    checks itself on a made-up tree in which every rule is broken once
"""
import os, re, subprocess, sys, tempfile

# Folder -> folders whose headers it may include, besides its own. DESIGN, "The way of the data, and who may call whom".
MAY_INCLUDE = {
    "src/base": "",
    "src/tensor": "base",
    "src/backend": "base tensor",
    "src/graph": "base tensor backend",
    "src/nn": "base tensor backend graph",
    "src/models": "base tensor backend graph nn",
    "src/data": "base tensor",
    "src/text": "base tensor",
    "src/comm": "base tensor",
    "src/train": "base tensor backend graph nn models data text comm",
    "cluster": "base comm",
    "data_prep": "base data",
    "results": "base data",
}
# Library header -> where it may be included (regular expressions over the path).
HOME = [
    (r"(oneapi/)?dnnl", r"src/backend/onednn/"),
    (r"(cuda|cudnn|cublas|driver_types)", r"src/backend/cuda/|src/comm/.*nccl"),
    (r"nccl\.h", r"src/comm/"),
    (r"mpi\.h", r"src/comm/|cluster/"),
    (r"(hdf5(_hl)?|H5\w*)\.h", r"src/data/|data_prep/|src/train/[^/]*(score|store|sample)[^/]*$"),
]
SOFT_LINES, HARD_LINES, FUNCTION_LINES = 600, 700, 60
ENDS = re.compile(r"(?<![\w.>])(exit|abort|quick_exit|MPI_Abort|comm_abort)\s*\(")
ENDS_AT_HOME = ("MPI_Abort", "comm_abort")  # in src/comm; only main calls them from there
WORDS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|not impl" r"emented|place" r"holder|\bst" r"ub\b")
OUR_CODE = ("src/", "cluster/", "data_prep/", "results/")


def tree(root):
    """Files that git knows or would add; every file where there is no git."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True,
                             check=True).stdout.split("\n")
        return sorted({f for f in out if f and os.path.isfile(os.path.join(root, f))})
    except (OSError, subprocess.CalledProcessError):
        found = (os.path.relpath(os.path.join(d, f), root) for d, _, files in os.walk(root) for f in files)
        return sorted(f for f in found if not f.startswith(("build", ".git/")))


def without_comments(text):
    """C source with comments and literals blanked, lines kept; include lines are read from the original."""
    token = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
    return token.sub(lambda m: "\n" * m.group().count("\n"), text)


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "src" and len(parts) > 2 else parts[0]


def check_includes(path, text, root):
    folder = folder_of(path)
    for number, line in enumerate(text.split("\n"), 1):
        m = re.match(r"\s*#\s*include\s*([<\"])([^>\"]+)[>\"]", line)
        if not m:
            continue
        name = m.group(2)
        for header, home in HOME:
            if re.match(header, name) and not re.match(home, path):
                yield number, f"includes {name}, which belongs to {home.replace('|', ' or ')}"
        if m.group(1) != '"' or folder not in MAY_INCLUDE:
            continue
        own = folder.split("/")[-1]
        first = name.split("/")[0]
        if "/" in name:
            top = first if first in ("cluster", "data_prep", "results") else f"src/{first}"
            if first != own and (top not in MAY_INCLUDE or first not in MAY_INCLUDE[folder].split()):
                yield number, f"{folder} may not include {name}"
        elif not os.path.isfile(os.path.join(root, os.path.dirname(path), name)):
            yield number, f"includes \"{name}\": write it with its folder"


def check_lengths(path, lines):
    if len(lines) > HARD_LINES:
        yield len(lines), f"{len(lines)} lines, at most {HARD_LINES} (aim at {SOFT_LINES})"


def advise(path, lines):
    """What is worth a look and fails nothing."""
    if SOFT_LINES < len(lines) <= HARD_LINES:
        yield len(lines), f"{len(lines)} lines, aim at {SOFT_LINES}"
    start = None
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_].*\)\s*\{$", line) or (start is None and line == "{"):
            start = number
        elif line.startswith("}") and start:
            if number - start + 1 > FUNCTION_LINES:
                yield start, f"a function of {number - start + 1} lines, aim at {FUNCTION_LINES}"
            start = None


def check(root):
    findings, advice = [], []
    place = os.path.abspath(root) + "/"  # a path of this machine has no business in the tree
    for path in tree(root):
        if not path.endswith((".c", ".h", ".cu", ".py", ".sh", ".md", ".txt", ".cmake", ".yaml", ".yml")):
            continue
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
            text = f.read()
        lines = text.rstrip("\n").split("\n")
        found = []
        data = path.startswith("tests/") and path.endswith(".txt") and not path.endswith("CMakeLists.txt")
        for number, line in enumerate([] if data else lines, 1):
            if WORDS.search(line):
                found.append((number, f"unfinished: '{WORDS.search(line).group()}'"))
            if place in line:
                found.append((number, f"a path of this machine: {place}"))
        if path.endswith((".c", ".h", ".cu")) and path.startswith(OUR_CODE):
            found += check_includes(path, text, root)
            found += check_lengths(path, lines)
            advice += [f"{path}:{n}: {what}" for n, what in advise(path, lines)]
            if path != "src/main.c":
                for number, line in enumerate(without_comments(text).split("\n"), 1):
                    m = ENDS.search(line)
                    if m and not (path.startswith("src/comm/") and m.group(1) in ENDS_AT_HOME):
                        found.append((number, f"{m.group(1)}() outside main.c"))
        findings += [f"{path}:{n}: {what}" for n, what in found]
    return findings, advice


def self_check():
    broken = {
        "src/base/a.c": ['#include "tensor/tensor.h"', "src/base may not include"],
        "src/tensor/a.c": ['#include <oneapi/dnnl/dnnl.h>', "belongs to src/backend/onednn"],
        "src/backend/onednn/a.c": ['#include <cuda_runtime.h>', "belongs to src/backend/cuda"],
        "src/train/step.c": ['#include <hdf5.h>', "belongs to src/data"],
        "src/train/b.c": ['#include <mpi.h>', "belongs to src/comm"],
        "cluster/a.c": ['#include "tensor/tensor.h"', "cluster may not include"],
        "results/a.c": ['#include "train/metric.h"', "results may not include"],
        "src/text/a.c": ['#include "missing.h"', "write it with its folder"],
        "src/nn/a.c": ["void f(void) { exit(1); }", "exit() outside main.c"],
        "src/train/a.c": ["void f(struct comm *c) { comm_abort(c, 1); }", "comm_abort() outside main.c"],
        "src/nn/b.c": ["x\n" * 701, "701 lines"],
        "src/graph/a.c": ["// TO" "DO: later", "unfinished"],
    }
    right = {
        "src/main.c": '#include "train/train.h"\nint main(void) { exit(0); }\n',
        "src/train/train.h": '#include "data/pool.h"\n#include "base/status.h"\n// abort() in words only\n',
        "src/train/score.c": '#include <hdf5.h>\nconst char *t = "exit(";\n',
        "src/comm/comm.c": '#include <mpi.h>\nvoid f(struct s *x) { x->exit(1); node_exit(2); _exit(3); MPI_Abort(w, 4); }\n',
        "src/backend/onednn/ops.c": '#include "ops.h"\n#include <oneapi/dnnl/dnnl.h>\n', "src/backend/onednn/ops.h": "\n",
    }
    with tempfile.TemporaryDirectory() as root:
        for path, text in [(p, v[0]) for p, v in broken.items()] + list(right.items()):
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w") as f:
                f.write(text)
        findings, _ = check(root)
    missed = [p for p, (_, wanted) in broken.items() if not any(f.startswith(p + ":") and wanted in f for f in findings)]
    wrong = [f for f in findings if f.split(":")[0] in right]
    for line in [f"not found: {p}" for p in missed] + [f"found wrongly: {f}" for f in wrong]:
        print(line)
    return bool(missed or wrong)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--self":
        sys.exit(self_check())
    FINDINGS, ADVICE = check(sys.argv[1])
    for LINE in FINDINGS:
        print(LINE)
    for LINE in ADVICE:
        print("worth a look:", LINE)
    sys.exit(bool(FINDINGS))
