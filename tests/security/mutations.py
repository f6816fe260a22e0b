"""Proof that the security tests can fail: each check is taken out of the core, and its test run.

    python tests/security/mutations.py [NAME...]

builds the core in a copy of the tree, then for each mutation of `mutation_list` changes one
place, builds again, and expects the named test to fail. Takes seven minutes for all; it is no part
of the default run, where `test_mutations.py` only makes sure that the places are still there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutation_list import MUTATIONS, ROOT, Mutation


def copy_tree(target: Path) -> None:
    """What is needed to build and to test, without what was built."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "build", ".*")
    for name in ("ext", "ovpn_dco", "tests"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, target / name)


def build(tree: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cannot build:\n{done.stdout}{done.stderr}")


def run(tree: Path, test: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"PYTHONPATH": str(tree)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def verdict(tree: Path, mutation: Mutation) -> str | None:
    """None when the test fails as it must, else what happened instead."""
    originals = {file: (tree / file).read_text() for file, _, _ in mutation.changes}
    try:
        for file, old, new in mutation.changes:
            text = (tree / file).read_text()
            if text.count(old) != 1:
                return f"{file} has the place {text.count(old)} times"
            (tree / file).write_text(text.replace(old, new))
        build(tree)
        done = run(tree, mutation.test)
    finally:
        for file, text in originals.items():
            (tree / file).write_text(text)
    # 1: a test failed. Negative: the process died of a signal, which is a failure as well.
    if done.returncode == 1 or done.returncode < 0:
        return None
    return f"pytest said {done.returncode}:\n{done.stdout[-2000:]}"


def main(names: list[str]) -> int:
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="ovpn_dco-mutations-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        build(tree)
        for test in sorted({mutation.test for mutation in chosen}):
            done = run(tree, test)
            if done.returncode:
                print(f"fails without any mutation: {test}\n{done.stdout}", file=sys.stderr)
                return 2
        for mutation in chosen:
            started = time.monotonic()
            problem = verdict(tree, mutation)
            survivors += problem is not None
            outcome = "caught" if problem is None else f"SURVIVED: {problem}"
            took = time.monotonic() - started
            test = mutation.test.rpartition("::")[2]
            print(f"{mutation.name:40} {took:5.1f} s  {test}: {outcome}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
