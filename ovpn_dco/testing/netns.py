"""Network namespaces joined by veth, for tests and measurements.

::

    with Topology(bare=True) as t:
        t.right.popen(["iperf3", "-s"])
        t.left.run(["ping", "-c1", t.link.right_ipv4])
        with t.left.enter():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)   # lives in the namespace

A namespace is made by ``unshare(2)`` on a thread of its own and held by a descriptor: it has no
name in ``/run/netns``, so it needs no writable file system, cannot collide with another run, and
vanishes with everything in it as soon as the last descriptor and process are gone, even after a
crash.

This needs CAP_SYS_ADMIN and CAP_NET_ADMIN. Without them a process that is still single-threaded
calls :func:`become_namespace_root` first, which makes it root of a user namespace of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute

from ovpn_dco.net.rtnetlink import usable_at_once
from ovpn_dco.testing import ethtool

if TYPE_CHECKING:
    from typing_extensions import Self

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def _setns(fd: int) -> None:
    _check(_libc.setns(fd, _CLONE_NEWNET), "setns")


def _thread_netns() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def become_namespace_root() -> None:
    """Make this process root of a new user namespace, with a network namespace that it owns.

    For processes without privilege; call it before any thread starts. The own network namespace
    is what allows :meth:`Namespace.enter` to come back: one of the parent could not be re-entered.

    Raises OSError: EPERM where user namespaces are forbidden, EINVAL with more than one thread.
    """
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    # setgroups must be given up before an unprivileged process may write gid_map:
    # user_namespaces(7)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")


def namespaces_available() -> str | None:
    """None when this process may make network namespaces, else the reason why not."""
    try:
        Namespace("probe").close()
    except OSError as error:
        return f"cannot make a network namespace: {error.strerror}"
    return None


class Namespace:
    """One network namespace, held by a descriptor.

    Its loopback is up; other interfaces get no IPv6 link-local address of their own accord.
    """

    def __init__(self, name: str) -> None:
        """Raises OSError: EPERM without CAP_SYS_ADMIN, ENOSPC at ``user.max_net_namespaces``."""
        self.name = name
        self._processes: list[subprocess.Popen[Any]] = []
        self._fd = _on_thread(self._create)

    @staticmethod
    def _create() -> int:
        _unshare(_CLONE_NEWNET)
        fd = _thread_netns()
        _silence_ipv6()
        with IPRoute() as ipr:
            ipr.link("set", index=1, state="up")
        return fd

    @property
    def fd(self) -> int:
        """The descriptor of the namespace; it stays ours."""
        if self._fd < 0:
            raise ValueError(f"namespace {self.name} is closed")
        return self._fd

    @property
    def path(self) -> str:
        """A path that other processes of this user can open, as in ``nsenter --net=PATH``."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def enter(self) -> Iterator[Namespace]:
        """Move the calling thread, and only it, into the namespace; back at the end.

        Sockets and processes made inside stay there. Do not switch threads (``await``) inside.
        """
        home = _thread_netns()
        try:
            _setns(self.fd)
            try:
                yield self
            finally:
                _setns(home)
        finally:
            os.close(home)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process in the namespace; `options` are those of :class:`subprocess.Popen`.

        It gets a process group of its own, and is killed when the namespace is closed.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("start_new_session", True)
        with self.enter():
            process = subprocess.Popen(list(argv), **options)
        self._processes.append(process)
        return process

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout_s: float | None = 60,
        env: Mapping[str, str] | None = None,
        input_text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return its output as text.

        Raises CommandFailed, a CalledProcessError that shows what was printed, unless `check` is
        off, and TimeoutExpired after `timeout_s` seconds.
        """
        with self.enter():
            result = subprocess.run(
                list(argv),
                check=False,
                timeout=timeout_s,
                env=env,
                input=input_text,
                stdin=subprocess.DEVNULL if input_text is None else None,
                capture_output=True,
                text=True,
            )
        if check and result.returncode != 0:
            raise CommandFailed(result.returncode, list(argv), result.stdout, result.stderr)
        return result

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket that lives in the namespace, wherever it is used."""
        with self.enter():
            return socket.socket(family, kind)

    def iproute(self) -> IPRoute:
        """A netlink socket (pyroute2) of the namespace; close it."""
        with self.enter():
            return IPRoute()

    def add_route(self, prefix: str, *, via: str | None = None, device: str | None = None) -> None:
        """Add a route, by gateway address or by interface name."""
        with self.iproute() as ipr:
            arguments: dict[str, Any] = {"dst": prefix}
            if via is not None:
                arguments["gateway"] = via
            if device is not None:
                arguments["oif"] = _index(ipr, device)
            ipr.route("add", **arguments)

    def set_mtu(self, interface: str, mtu: int) -> None:
        """Set the MTU of an interface, bytes."""
        with self.iproute() as ipr:
            ipr.link("set", index=_index(ipr, interface), mtu=mtu)

    def set_up(self, interface: str, *, up: bool = True) -> None:
        """Bring an interface up, or down."""
        with self.iproute() as ipr:
            ipr.link("set", index=_index(ipr, interface), state="up" if up else "down")

    def add_address(self, interface: str, address: str) -> None:
        """Add ``10.0.0.1/24`` or ``fd00::1/64``, usable at once: no duplicate detection."""
        ip, length = address.split("/")
        with self.iproute() as ipr:
            index = _index(ipr, interface)
            more = usable_at_once(ip)
            ipr.addr("add", index=index, address=ip, prefixlen=int(length), **more)

    def replace_address(self, interface: str, old: str, new: str) -> None:
        """Take an address away and put another one in its place, prefixes of /24 or /64."""
        length = 64 if ":" in old else 24
        with self.iproute() as ipr:
            ipr.addr("del", index=_index(ipr, interface), address=old, prefixlen=length)
        self.add_address(interface, f"{new}/{length}")

    def has_interface(self, interface: str) -> bool:
        """Whether an interface of this name is there."""
        with self.iproute() as ipr:
            return bool(ipr.link_lookup(ifname=interface))

    def close(self) -> None:
        """Kill what runs inside and let go of the namespace. Idempotent."""
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        self._processes.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Namespace({self.name!r}, fd={self._fd})"


class CommandFailed(subprocess.CalledProcessError):
    """A command of :meth:`Namespace.run` that failed; its message carries what it printed."""

    def __str__(self) -> str:
        said = (self.stderr or self.stdout or "").strip()
        return f"{super().__str__()}\n{said}" if said else super().__str__()


@dataclass(frozen=True)
class Link:
    """One veth pair: interface names and addresses at both ends, prefixes of /24 and /64."""

    left_name: str
    right_name: str
    left_ipv4: str
    right_ipv4: str
    left_ipv6: str
    right_ipv6: str


def plan_link(number: int) -> Link:
    """The usual names and addresses of spoke `number`, which counts from 0."""
    return Link(
        left_name=f"veth{number}",
        right_name="veth0",
        left_ipv4=f"10.98.{number}.1",
        right_ipv4=f"10.98.{number}.2",
        left_ipv6=f"fd98:{number:x}::1",
        right_ipv6=f"fd98:{number:x}::2",
    )


class Topology:
    """A hub and one or more spokes, each joined to the hub by a veth pair.

    With one spoke: ``left`` (the hub) and ``right``, and one :attr:`link`. Unless `plan` says
    otherwise every spoke reaches its hub at ``10.98.N.1``; nothing is forwarded between spokes
    unless the test says so.
    """

    def __init__(
        self,
        *,
        spokes: int = 1,
        bare: bool = False,
        mtu: int = 1500,
        plan: Callable[[int], Link] = plan_link,
    ) -> None:
        """Build everything.

        `bare` switches segmentation and GRO off at both ends, so that every datagram crosses alone:
        veth otherwise hands UDP and TCP super-packets over whole. `mtu` is that of the wire, bytes.
        `plan` gives the names and addresses of each spoke's link.

        Raises OSError: EPERM without privilege (see :func:`become_namespace_root`).
        """
        if not 1 <= spokes <= 250:
            raise ValueError("spokes must be between 1 and 250")
        self.bare = bare
        self.mtu = mtu
        self.spokes: tuple[Namespace, ...] = ()
        self.links: tuple[Link, ...] = ()
        self.left = Namespace("left")
        try:
            for number in range(spokes):
                spoke = Namespace("right" if spokes == 1 else f"spoke{number}")
                self.spokes += (spoke,)
                self.links += (self._join(spoke, plan(number)),)
        except BaseException:
            self.close()
            raise

    @property
    def right(self) -> Namespace:
        """The first spoke."""
        return self.spokes[0]

    @property
    def link(self) -> Link:
        """The first link."""
        return self.links[0]

    def _join(self, spoke: Namespace, link: Link) -> Link:
        peer = {"ifname": link.right_name, "net_ns_fd": spoke.fd, "mtu": self.mtu}
        with self.left.iproute() as ipr:
            ipr.link("add", ifname=link.left_name, kind="veth", mtu=self.mtu, peer=peer)
        ends = (
            (self.left, link.left_name, link.left_ipv4, link.left_ipv6),
            (spoke, link.right_name, link.right_ipv4, link.right_ipv6),
        )
        for namespace, name, _, _ in ends:
            if self.bare:
                with namespace.enter():
                    ethtool.set_features(name, dict.fromkeys(ethtool.AGGREGATION, False))
            namespace.set_up(name)
        # Only now that both ends have a carrier: an IPv6 address added before stays tentative.
        for namespace, name, ipv4, ipv6 in ends:
            namespace.add_address(name, f"{ipv4}/24")
            namespace.add_address(name, f"{ipv6}/64")
        return link

    def close(self) -> None:
        """Kill what runs inside and let everything go. Idempotent."""
        for namespace in (*self.spokes, self.left):
            namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _index(ipr: IPRoute, interface: str) -> int:
    found = ipr.link_lookup(ifname=interface)
    if not found:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    return int(found[0])


def _silence_ipv6() -> None:
    """No link-local addresses, no router solicitations: an idle link is then really idle."""
    for name, value in (("addr_gen_mode", "1"), ("router_solicitations", "0")):
        # Where /proc/sys is mounted read-only the kernel's defaults have to do.
        with (
            contextlib.suppress(OSError),
            open(f"/proc/sys/net/ipv6/conf/default/{name}", "w", encoding="ascii") as file,
        ):
            file.write(value)


def _on_thread(function: Callable[[], int]) -> int:
    """Run on a thread that ends afterwards: it may leave its namespace for good."""
    results: list[int] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    # Python lets go of a thread a moment before the kernel does, and a user namespace can be made
    # only by a process with one thread.
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        time.sleep(0.0005)
    if failures:
        raise failures[0]
    return results[0]
