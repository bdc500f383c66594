#!/usr/bin/env python3
"""kill -9 of one rank at random moments, and SIGUSR1 to all of them: run again, the run ends with the bits of an
undisturbed one. A checkpoint of every few steps, so that kills fall into writing too.

    kill.py GRIDSEG [KILLS [SIGNALS [SEED]]]
"""
import os
import random
import shutil
import signal
import sys
import time

from common import Bench, kill, rank_processes, wait_for

RANKS = 2
KEYS = ["train.epochs=14", "checkpoint.every_minutes=0.001"]


def interrupt(bench, out, number, delay):
    """Start, wait until the run is at work and `delay` longer, send the signal to one rank (kill) or to all. The exit
    code; None when the run was over before."""
    run = bench.start(RANKS, f"out={out}", *KEYS)
    wait_for(lambda: run.poll() is not None or os.path.exists(bench.path(out, "curves.csv")))
    time.sleep(delay)
    pids = rank_processes(run)
    if run.poll() is not None:
        run.communicate()
        return None
    if number == signal.SIGKILL:
        sent = kill(random.choice(pids), number)
    else:
        sent = all([kill(pid, number) for pid in pids])
    text, _ = run.communicate(timeout=120)
    if not sent or run.returncode == 0:
        return None
    return run.returncode, text


def disturbed(bench, truth, i, number, longest):
    out = f"out-{i}"
    met = None
    for _ in range(20):
        shutil.rmtree(bench.path(out), ignore_errors=True)
        met = interrupt(bench, out, number, random.uniform(0, longest))
        if met:
            break
    if not met:
        bench.check(False, f"{out}: the run was over each time before the signal came")
        return
    code, text = met
    if number == signal.SIGUSR1:
        bench.check(code == 75, f"{out}: exit code {code} after SIGUSR1, wanted 75:\n{text}")
        bench.check(bench.status(out)["status"] == "preempted", f"{out}: {bench.status(out)}")
    else:
        bench.check(code != 0, f"{out}: exit code 0 after kill -9")
    bench.train(RANKS, f"out={out}", *KEYS)
    bench.check(bench.status(out)["status"] == "done", f"{out}: {bench.status(out)}")
    for link in ("last", "best"):
        bench.check(bench.bits(out, link) == truth[link], f"{out}: {link} has other bits than the undisturbed run")
    left = [n for n in os.listdir(bench.path(out, "checkpoints")) if n.startswith((".", "damaged"))]
    bench.check(not left, f"{out}: left behind {left}")


def main():
    kills, signals = (int(sys.argv[i]) if len(sys.argv) > i else n for i, n in ((2, 10), (3, 5)))
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    print("seed", seed, flush=True)
    random.seed(seed)
    bench = Bench(sys.argv[1])
    bench.train(RANKS, "out=warm", *KEYS)
    start = time.monotonic()
    bench.train(RANKS, "out=truth", *KEYS)
    longest = 0.9 * (time.monotonic() - start)
    truth = {link: bench.bits("truth", link) for link in ("last", "best")}
    for i in range(kills):
        disturbed(bench, truth, f"kill-{i}", signal.SIGKILL, longest)
    for i in range(signals):
        disturbed(bench, truth, f"stop-{i}", signal.SIGUSR1, longest)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
