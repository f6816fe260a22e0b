"""Imports and includes point downward: the rank table of docs/architecture.md, enforced."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "ovpn_dco"
CORE_IMPORTER = "backend/userspace.py"
RANK_ZERO_ONLY = {"netlink", "config", "protocol", "validation"}
# What `import ovpn_dco` may load at once; the names of higher ranks are lazy.
ROOT_RANK = 3
ABOVE_ALL = {"tests", "fuzz"}


@dataclass(frozen=True)
class Ranks:
    python: dict[str, int]
    c: dict[str, int]
    whole: dict[str, str]
    """Files that are one component together: `peer` is a part of `device`."""


def read_ranks(text: str) -> Ranks:
    """The table with the columns rank, Python, C."""
    ranks = Ranks({}, {}, {})
    table = text.partition("| rank | Python | C |\n")[2].partition("\n\n")[0]
    for number, python, c in re.findall(r"^\| *(\d+) *\|([^|]*)\|([^|]*)\|$", table, re.MULTILINE):
        for column, known in ((python, ranks.python), (c, ranks.c)):
            for name, parts in re.findall(r"(\w+)(?: \(([^)]*)\))?", column):
                assert name not in known, f"{name} stands twice in the rank table"
                known[name] = int(number)
                ranks.whole.update(dict.fromkeys(re.findall(r"\w+", parts), name))
    return ranks


# Python


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, at any depth. `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    name = argument.value
                    yield node.lineno, package + name if name.startswith(".") else name


def is_for_checkers(node: ast.stmt) -> bool:
    """`if TYPE_CHECKING:`, which never runs."""
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def without_functions(tree: ast.Module) -> ast.Module:
    """What runs at import time only: for the package root, whose lazy imports are in functions,
    and told to type checkers apart."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    kept = [
        node for node in tree.body if not isinstance(node, functions) and not is_for_checkers(node)
    ]
    return ast.Module(body=kept, type_ignores=[])


def component_of(module: str, package_dir: Path, ranks: Ranks) -> str | None:
    """`ovpn_dco.net.interface.Interface` is in `net`; a name of the root itself is in ''."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    if len(parts) == 1:
        return ""
    first = ranks.whole.get(parts[1], parts[1])
    known = first in ranks.python or any(
        (package_dir / f"{first}{end}").exists() for end in ("", ".py", ".pyi")
    )
    return first if known else ""


def python_violations(package_dir: Path, ranks: Ranks) -> list[str]:
    found = []
    for path in sorted(package_dir.rglob("*.py")):
        relative = path.relative_to(package_dir)
        tree = ast.parse(path.read_text(), str(path))
        package = ".".join([PACKAGE, *relative.parts[:-1]])
        root = relative == Path("__init__.py")
        mine = "" if root else relative.parts[0].removesuffix(".py").replace("__main__", "cli")
        mine = ranks.whole.get(mine, mine)
        if mine and mine not in ranks.python:
            found.append(f"{relative}: {mine} is not in the rank table")
            continue
        rank = ROOT_RANK + 1 if root else ranks.python[mine]
        limit = 1 if mine in RANK_ZERO_ONLY else rank
        for line, module in imported_modules(without_functions(tree) if root else tree, package):
            theirs = component_of(module, package_dir, ranks)
            if theirs is None or theirs == mine:
                continue
            place = f"{relative}:{line}"
            if theirs == "_core" and str(relative) != CORE_IMPORTER:
                found.append(f"{place}: only {CORE_IMPORTER} imports _core")
            their_rank = ranks.python.get(theirs, -1) if theirs else ROOT_RANK
            if their_rank < 0:
                found.append(f"{place}: {theirs} is not in the rank table")
            elif their_rank >= limit:
                found.append(
                    f"{place}: {mine or PACKAGE} (rank {rank}) imports "
                    f"{theirs or PACKAGE} (rank {their_rank})"
                )
    return found


# C and Cython

INCLUDE = re.compile(
    r"""^[ \t]*(?:\#\s*include\s*"([^"]+)"            # C
          |cdef\s+extern\s+from\s+"([^<"][^"]*)"   # Cython, of a header of ours
          |include\s+"([^"]+)")                    # Cython, textual
    """,
    re.MULTILINE | re.VERBOSE,
)


def c_component(path: Path) -> str:
    """By folder; at the top by file, except that all Cython there is `_core`."""
    if len(path.parts) > 1:
        return path.parts[0]
    return "_core" if path.suffix in (".pyx", ".pxd", ".pxi") else path.stem


def c_violations(ext_dir: Path, ranks: Ranks) -> list[str]:
    found = []
    for path in sorted(ext_dir.rglob("*.*")):
        relative = path.relative_to(ext_dir)
        mine = c_component(relative)
        if path.suffix not in (".c", ".h", ".pyx", ".pxd", ".pxi") or mine in ABOVE_ALL:
            continue
        if mine not in ranks.c:
            found.append(f"{relative}: {mine} is not in the rank table")
            continue
        for match in INCLUDE.finditer(text := path.read_text()):
            name = next(filter(None, match.groups()))
            candidates = ((ext_dir / name).resolve(), (path.parent / name).resolve())
            target = next((one for one in candidates if one.exists()), None)
            if target is None:
                continue  # a system header in quotes
            theirs = c_component(target.relative_to(ext_dir.resolve()))
            line = text.count("\n", 0, match.start()) + 1
            if theirs == mine:
                continue
            if theirs not in ranks.c:
                found.append(f"{relative}:{line}: includes {name}, which has no rank")
            elif ranks.c[theirs] > ranks.c[mine] or (ranks.c[theirs] == ranks.c[mine] > 0):
                found.append(
                    f"{relative}:{line}: {mine} (rank {ranks.c[mine]}) includes "
                    f"{theirs} (rank {ranks.c[theirs]})"
                )
    return found


# The project


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return read_ranks((ROOT / "docs/architecture.md").read_text())


def test_table_is_read(ranks: Ranks) -> None:
    assert ranks.python["errors"] == 0
    assert ranks.python["device"] == 3
    assert ranks.python["cli"] == 7
    assert ranks.c["engine"] == 3
    assert len(ranks.python) + len(ranks.c) > 20


def test_python_imports_point_downward(ranks: Ranks) -> None:
    assert python_violations(ROOT / PACKAGE, ranks) == []


def test_c_includes_point_downward(ranks: Ranks) -> None:
    assert c_violations(ROOT / "ext", ranks) == []


# The checker itself


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


PYTHON_TREE = {
    "__init__.py": "from ovpn_dco.device import Device\n",
    "_core.pyi": "",
    "errors.py": "import os\n",
    "protocol/__init__.py": "from ovpn_dco.errors import DcoError\n",
    "backend/__init__.py": "",
    "backend/userspace.py": "from ovpn_dco import _core\nfrom ovpn_dco.errors import DcoError\n",
    "device.py": "from ovpn_dco.backend.userspace import UserspaceBackend\n",
    "peer.py": "from .transport import Transport\n",
    "transport.py": "",
    "client.py": "import ovpn_dco\nfrom ovpn_dco import Device\n",
}


def test_checker_accepts_a_clean_tree(tmp_path: Path, ranks: Ranks) -> None:
    assert python_violations(lay(tmp_path, PYTHON_TREE), ranks) == []


def test_checker_accepts_lazy_names_of_the_root(tmp_path: Path, ranks: Ranks) -> None:
    lazy = "def __getattr__(name):\n    from ovpn_dco.client import Client\n    return Client\n"
    lay(tmp_path, PYTHON_TREE | {"__init__.py": lazy})
    assert python_violations(tmp_path, ranks) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("errors.py", "import ovpn_dco.device\n", "errors.py:1: errors (rank 0) imports device"),
        ("errors.py", "def f():\n    from ovpn_dco import device\n", "errors.py:2: errors"),
        ("errors.py", "from ovpn_dco import Device\n", "imports ovpn_dco (rank 3)"),
        ("errors.py", "from .device import Device\n", "errors (rank 0) imports device"),
        ("backend/base.py", "from ..device import Device\n", "backend (rank 2) imports device"),
        ("backend/base.py", "from ovpn_dco._core import Engine\n", "only backend/userspace.py"),
        ("device.py", "from ovpn_dco import _core\n", "only backend/userspace.py imports _core"),
        (
            "backend/base.py",
            "from ..peer import Peer\n",
            "backend (rank 2) imports device (rank 3)",
        ),
        ("device.py", "import ovpn_dco\n", "device (rank 3) imports ovpn_dco"),
        ("protocol/wire.py", "from ovpn_dco.backend import base\n", "protocol (rank 1) imports"),
        ("config.py", "import ovpn_dco.protocol\n", "config (rank 1) imports protocol (rank 1)"),
        ("device.py", "import_module('ovpn_dco.client')\n", "device (rank 3) imports client"),
        ("__init__.py", "from ovpn_dco.client import Client\n", "ovpn_dco (rank 4) imports client"),
        ("__init__.py", "try:\n    import ovpn_dco.client\nfinally:\n    pass\n", "imports client"),
        ("newcomer.py", "", "newcomer is not in the rank table"),
    ],
)
def test_checker_catches_an_upward_import(
    tmp_path: Path, ranks: Ranks, name: str, text: str, message: str
) -> None:
    lay(tmp_path, PYTHON_TREE | {name: text})
    assert any(message in line for line in python_violations(tmp_path, ranks))


C_TREE = {
    "bounds.h": "#include <limits.h>\n",
    "dco.h": '#include "bounds.h"\n',
    "codec/wire.h": "",
    "codec/gso.c": '#include "codec/wire.h"\n',
    "io/udp.h": '#include "dco.h"\n',
    "engine/worker.h": '#include "io/udp.h"\n',
    "bench/loop.h": '#include "codec/wire.h"\n',
    "bench/loop.pxi": 'cdef extern from "bench/loop.h":\n    pass\n',
    "_core.pyx": 'cdef extern from "<poll.h>":\n    pass\ninclude "bench/loop.pxi"\n',
    "dco.pxd": 'cdef extern from "dco.h" nogil:\n    pass\n',
    "tests/test_all.c": '#include "engine/worker.h"\n',
}


def test_checker_accepts_a_clean_c_tree(tmp_path: Path, ranks: Ranks) -> None:
    assert c_violations(lay(tmp_path, C_TREE), ranks) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("codec/gso.c", '#include "io/udp.h"\n', "codec/gso.c:1: codec (rank 1) includes io"),
        ("codec/gso.c", '\n#  include "../io/udp.h"\n', "codec/gso.c:2"),
        ("io/udp.h", '#include "engine/worker.h"\n', "io (rank 2) includes engine (rank 3)"),
        ("bounds.h", '#include "codec/wire.h"\n', "bounds (rank 0) includes codec (rank 1)"),
        ("engine/worker.h", '#include "bench/loop.h"\n', "engine (rank 3) includes bench (rank 3)"),
        ("engine/worker.h", '#include "tests/test_all.c"\n', "which has no rank"),
        ("oddity/new.h", "", "oddity is not in the rank table"),
    ],
)
def test_checker_catches_an_upward_include(
    tmp_path: Path, ranks: Ranks, name: str, text: str, message: str
) -> None:
    lay(tmp_path, C_TREE | {name: text})
    assert any(message in line for line in c_violations(tmp_path, ranks))
