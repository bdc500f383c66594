#!/usr/bin/env python3
"""count.py JUNIT.xml [PREFIX]: what a ctest run (`--output-junit`) held, as lines `passed|failed|skipped NAME`, for tests/run.sh.

A cmocka program prints each of its tests: those are counted, not the program. A program that failed without a failed test of
its own (a crash, a leak, a time-out) counts as one more failure."""
import re, sys
import xml.etree.ElementTree as xml

LINE = re.compile(r"\[\s+(OK|FAILED|SKIPPED)\s+\] (\S+)\s*$", re.M)
KIND = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}

prefix = sys.argv[2] if len(sys.argv) > 2 else ""
for case in xml.parse(sys.argv[1]).getroot().iter("testcase"):
    name = prefix + case.get("name")
    status = case.get("status")
    output = case.findtext("system-out") or ""
    whole = "skipped" if status in ("notrun", "disabled") or case.find("skipped") is not None else \
        "passed" if status == "run" and case.find("failure") is None else "failed"
    seen = {}
    for result, test in LINE.findall(output):  # every rank prints its own; the worst stands, and the summary repeats
        rank = ("OK", "SKIPPED", "FAILED").index(result)
        seen[test] = max(rank, seen.get(test, 0))
    for test, rank in seen.items():
        print(KIND[("OK", "SKIPPED", "FAILED")[rank]], f"{name}.{test}")
    if not seen or (whole == "failed" and 2 not in seen.values()):
        print(whole, name)
