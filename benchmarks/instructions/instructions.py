"""Instructions per packet in our own objects, counted by valgrind's callgrind.

    python benchmarks/instructions/instructions.py PROBE [--baseline COMMIT] [--details FIGURE]

PROBE is what `make instructions` builds from probe.c and the engine. A count is the same on every
run of one program, so what differs from the baseline is the code, or the compiler. Everything that
the engine calls is left out: libcrypto, libc and the kernel."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BASELINE = Path(__file__).with_name("baseline.json")
# How much more than the baseline fails a test, percent. The aim of all features that are off
# together is 3.
LIMIT = 5.0

CALLGRIND = (
    "valgrind --quiet --tool=callgrind --collect-atstart=no --toggle-collect=measured_*"
    " --dump-after=report --compress-strings=no --compress-pos=no"
).split()


@dataclass(frozen=True)
class Baseline:
    """Instructions per packet by figure, and what they were counted with."""

    commit: str
    compiler: str
    valgrind: str
    figures: dict[str, float]


def self_costs(dump: Path) -> Iterator[tuple[str, str, int]]:
    """Object, function and its own instructions, as the dump lists them."""
    place, function, callee = "", "", False
    for line in dump.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "ob":
            place = value
        elif key == "fn":
            function = value
        elif key == "calls":
            callee = True  # the next line is what the callee cost, callees of its own included
        elif line[:1].isdigit():
            if not callee:
                yield place, function, int(line.split()[1])
            callee = False


def count(probe: Path) -> dict[str, Counter[str]]:
    """Instructions per packet of each function of ours, by figure."""
    own = str(probe.resolve())
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        command = [*CALLGRIND, f"--callgrind-out-file={out}", own]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for number, line in enumerate(done.stdout.splitlines(), 1):
            name, packets = line.split()
            functions: Counter[str] = Counter()
            for place, function, instructions in self_costs(Path(f"{out}.{number}")):
                if place == own and not function.startswith("measured_"):
                    functions[function] += instructions
            figures[name] = Counter({f: n / int(packets) for f, n in functions.items()})
    return figures


def figures_of(functions: dict[str, Counter[str]]) -> dict[str, float]:
    """Instructions per packet by figure, as the baseline has them."""
    return {name: round(sum(each.values()), 1) for name, each in functions.items()}


def version(*command: str) -> str:
    """The first line of what a program says of its version."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0]


def compiler_of(probe: Path) -> str:
    """Compiler, its version and the machine that it built for."""
    return version(str(probe), "--compiler")


def read_baseline() -> Baseline:
    return Baseline(**json.loads(BASELINE.read_text()))


def difference(figure: float, before: float) -> float:
    """Percent."""
    return (figure / before - 1) * 100


def table(figures: dict[str, float], baseline: Baseline) -> str:
    lines = [f"{'instructions per packet':26}{'baseline':>10}{'now':>10}{'':>10}"]
    for name, figure in figures.items():
        before = baseline.figures.get(name, figure)
        change = difference(figure, before)
        lines.append(f"{name:26}{before:10.1f}{figure:10.1f}{change:+9.1f}%")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("probe", type=Path)
    parser.add_argument("--baseline", metavar="COMMIT", help="write the figures as those of COMMIT")
    parser.add_argument("--details", metavar="FIGURE", help="the functions of one figure")
    options = parser.parse_args()
    functions = count(options.probe)
    figures = figures_of(functions)
    if options.details:
        for function, instructions in functions[options.details].most_common():
            print(f"{instructions:10.1f}  {function}")
        return
    compiler = compiler_of(options.probe)
    if options.baseline:
        made = Baseline(options.baseline, compiler, version("valgrind", "--version"), figures)
        BASELINE.write_text(json.dumps(asdict(made), indent=4) + "\n")
    baseline = read_baseline()
    print(table(figures, baseline))
    if compiler != baseline.compiler:
        print(f"not comparable: {compiler} here, {baseline.compiler} there")


if __name__ == "__main__":
    main()
