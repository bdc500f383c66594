"""What the fault scripts share: a small dataset, a small model, and runs of `gridseg train` on any number of ranks.
The standard library suffices."""
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# An MPI of its own session, no binding, more ranks than cores, root as in a container.
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
               "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)


class Bench:
    """A temporary folder with pools/phantom (21 training samples), a model directory and a configuration."""

    def __init__(self, binary, size=32):
        self.binary = os.path.abspath(binary)
        self.root = tempfile.mkdtemp(prefix="gridseg-fault-")
        self.failed = []
        self.passed = 0
        self.call("phantom", "--domain", "endoscopy", "--count", "25", "--seed", "3", "--out", "phantom")
        for split in ("train", "val"):
            self.call("pack", "--dataset", "study", "--source", "phantom", "--split", split, "--size", str(size),
                      "--out", "pools")
        subprocess.run([sys.executable, os.path.join(HERE, "make_model.py"), self.path("model"), str(size)], check=True)
        with open(self.path("train.yaml"), "w") as f:
            f.write("model: model\ninit: random\npools: {root: pools, train: [phantom]}\n"
                    f"size: {size}\nprompt: p6\nthreads: 1\n"
                    "train: {batch: 8, epochs: 7, lr: 2e-3}\nout: out\n")

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def call(self, *arguments):
        done = subprocess.run([self.binary, "--quiet", *arguments], cwd=self.root, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{arguments}: {done.returncode}: {done.stderr}")

    def command(self, ranks, *keys):
        launch = [] if ranks == 0 else ["mpirun", "-np", str(ranks)]
        return [*launch, self.binary, "train", "train.yaml", *keys]

    def start(self, ranks, *keys):
        return subprocess.Popen(self.command(ranks, *keys), cwd=self.root, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def train(self, ranks, *keys, expect=0):
        """Run to the end; the output. Another exit code than `expect` is a failure of the test."""
        done = subprocess.run(self.command(ranks, *keys), cwd=self.root, capture_output=True, text=True, timeout=240)
        if expect is not None and done.returncode != expect:
            self.check(False, f"{ranks} ranks {' '.join(keys)}: exit code {done.returncode}, wanted {expect}:\n"
                              f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def curves(self, out, kind="step"):
        with open(self.path(out, "curves.csv")) as f:
            return [row for row in csv.DictReader(f) if row["kind"] == kind]

    def bits(self, out, link="last"):
        """Digest of everything that training computed: weights, moments, curves without their times."""
        digest = hashlib.sha256()
        folder = self.path(out, "checkpoints", link)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".safetensors"):
                with open(os.path.join(folder, name), "rb") as f:
                    digest.update(f.read())
        with open(self.path(out, "curves.csv")) as f:
            for row in csv.reader(f):
                digest.update(",".join(row[:8]).encode())
        return digest.hexdigest()

    def status(self, out):
        with open(self.path(out, "status.json")) as f:
            return json.load(f)

    def check(self, fine, what):
        if fine:
            self.passed += 1
        else:
            self.failed.append(what)
            print("FAILED:", what, flush=True)

    def finish(self):
        print(f"{self.passed} passed, {len(self.failed)} failed")
        if not self.failed:
            shutil.rmtree(self.root)
        else:
            print("left behind:", self.root)
        return 1 if self.failed else 0


def rank_processes(launcher):
    """The processes of the ranks that mpirun has started (itself, when there is no mpirun)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                after = f.read().rpartition(")")[2].split()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if int(after[1]) == launcher.pid and words[0].endswith(b"gridseg"):
            found.append(int(pid))
    return sorted(found) or [launcher.pid]


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False
