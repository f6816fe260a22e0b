"""Builds the one extension, `ovpn_dco._core`; everything else is in pyproject.toml.

Switches, by environment:

    OVPN_DCO_DEBUG=1                        no optimisation, assertions on
    OVPN_DCO_SANITIZE=address,undefined     any -fsanitize= list; `thread` for ThreadSanitizer
    OVPN_DCO_COVERAGE=1                     gcov counters
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from sysconfig import get_platform
from typing import Any, NoReturn

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

OPENSSL_MINIMUM = "3.0"
BANDS = ("codec", "sync", "peers", "io", "engine", "bench")
HEADERS = sorted(glob("ext/*.h") + glob("ext/*/*.h") + glob("ext/*.px[di]"))
SOURCES = sorted(path for band in BANDS for path in glob(f"ext/{band}/*.c"))

PREREQUISITES = """\
ovpn_dco cannot be built: {problem}

It needs a C compiler, pkg-config, the Python headers and libcrypto of OpenSSL >= {minimum}:
    Debian, Ubuntu:  apt-get install gcc libc6-dev pkg-config libssl-dev python3-dev
    Fedora, RHEL:    dnf install gcc glibc-devel pkgconf-pkg-config openssl-devel python3-devel
"""


def refuse(problem: str) -> NoReturn:
    """Ends the build with the one message that helps."""
    sys.exit(PREREQUISITES.format(problem=problem.strip(), minimum=OPENSSL_MINIMUM))


def pkg_config(*arguments: str) -> list[str]:
    """What pkg-config prints about libcrypto, as words."""
    command = os.environ.get("PKG_CONFIG", "pkg-config")
    if shutil.which(command) is None:
        refuse(f"{command} is not installed (or not in PATH).")
    done = subprocess.run([command, *arguments, "libcrypto"], capture_output=True, text=True)
    if done.returncode:
        refuse(f"{command} finds no libcrypto >= {OPENSSL_MINIMUM}.\n{done.stderr.strip()}")
    return done.stdout.split()


def compiler_flags() -> tuple[list[str], list[str]]:
    """Flags for compiling and for linking, with the switches of the environment."""
    flags = ["-std=gnu11", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra"]
    instrument: list[str] = []
    if sanitize := os.environ.get("OVPN_DCO_SANITIZE", ""):
        instrument += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
        if "thread" in sanitize.split(","):
            # gcc warns that TSan ignores fences; sync/ tells it what they order.
            flags += ["-Wno-tsan"]
    if os.environ.get("OVPN_DCO_COVERAGE") == "1":
        instrument += ["--coverage"]
    if os.environ.get("OVPN_DCO_DEBUG") == "1":
        flags += ["-O0", "-g3", "-UNDEBUG"]
    else:
        flags += ["-O1", "-g"] if instrument else ["-O3"]
    return flags + instrument, ["-pthread", *instrument]


class BuildCore(build_ext):
    """Checks the prerequisites, translates the Cython file, compiles what is out of date."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # Also for editable installs, which would compile everything in a folder of their own.
        self.build_temp = f"build/core-{get_platform()}-{sys.implementation.cache_tag}"

    def build_extensions(self) -> None:
        if not sys.platform.startswith("linux"):
            sys.exit(f"ovpn_dco runs on Linux only; this is {sys.platform}.")
        (extension,) = self.extensions
        pkg_config(f"--atleast-version={OPENSSL_MINIMUM}")
        cflags = pkg_config("--cflags")
        self.check_compiler(cflags)

        compile_flags, link_flags = compiler_flags()
        extension.extra_compile_args = [*compile_flags, *cflags]
        extension.extra_link_args = [*link_flags, *pkg_config("--libs")]
        extension.depends = [*HEADERS, self.flags_file(extension)]
        extension.sources = [*self.translate(extension), *SOURCES]
        self.compile_in_parallel(extension)
        super().build_extensions()

    def check_compiler(self, cflags: list[str]) -> None:
        """Compiles one include at a time, so that the message can name what is missing."""
        compiler = self.compiler.compiler[0]
        if shutil.which(compiler) is None:
            refuse(f"no C compiler: {compiler} is not installed (or not in PATH).")
        with tempfile.TemporaryDirectory() as folder:
            for header in ("stdlib.h", "Python.h", "openssl/evp.h", "linux/if_tun.h"):
                probe = Path(folder, "probe.c")
                probe.write_text(f"#include <{header}>\n")
                try:
                    self.compiler.compile(
                        [str(probe)],
                        output_dir=folder,
                        include_dirs=self.include_dirs,
                        extra_postargs=cflags,
                    )
                except CompileError:
                    refuse(f"{compiler} finds no header <{header}>.")

    def flags_file(self, extension: Extension) -> str:
        """A file that changes when the flags do, so that a switch rebuilds everything."""
        path = Path(self.build_temp, "flags")
        text = " ".join([*extension.extra_compile_args, *extension.extra_link_args])
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(path)

    def translate(self, extension: Extension) -> list[str]:
        """From `_core.pyx` to C, outside the source tree."""
        from Cython.Build import cythonize

        (translated,) = cythonize(
            [Extension(extension.name, ["ext/_core.pyx"])],
            include_path=["ext"],
            build_dir=str(Path(self.build_temp, "cython")),
            quiet=not self.verbose,
        )
        return list(translated.sources)

    def compile_in_parallel(self, extension: Extension) -> None:
        """One thread for each core, and only for objects older than their source or any header."""
        compile_all = self.compiler.compile
        newest_header = max(os.path.getmtime(path) for path in extension.depends)

        def compile_one(source: str, output_dir: str, options: dict[str, Any]) -> str:
            (target,) = self.compiler.object_filenames([source], output_dir=output_dir)
            newest = max(newest_header, os.path.getmtime(source))
            if not os.path.exists(target) or os.path.getmtime(target) <= newest:
                compile_all([source], output_dir=output_dir, **options)
            return target

        def compile_stale(sources: list[str], output_dir: str, **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(lambda s: compile_one(s, output_dir, options), sources))

        self.compiler.compile = compile_stale


setup(
    ext_modules=[Extension("ovpn_dco._core", ["ext/_core.pyx", *SOURCES], include_dirs=["ext"])],
    cmdclass={"build_ext": BuildCore},
)
