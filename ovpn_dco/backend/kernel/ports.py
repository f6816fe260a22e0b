"""The sockets of a device by number, and one descriptor that tells of all of them."""

from __future__ import annotations

import errno
import itertools
import select
from collections.abc import Iterator

from ...validation.answers import answer
from .bell import Bell
from .listener import Listener
from .port import Packet, Port
from .tcp import TcpPort

EARLY_MAX = 64
"""Packets of a connection that has ended which are kept."""
READY_MAX = 64
"""Sockets that are read in one call; the others have their turn in the next."""


class Ports:
    """Numbers are never given twice. Not for several threads at once."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.ends = select.epoll()
        """Readable while a connection that the driver has comes to its end."""
        self.packets = 0
        self._early: list[tuple[int, Packet]] = []
        self._bell = Bell()  # while any of them wait
        self.epoll.register(self._bell, select.EPOLLIN)
        self._ports: dict[int, Port] = {}
        self._numbers = itertools.count(1)
        self._by_fd: dict[int, int] = {}
        self._watched: dict[tuple[select.epoll, int], int] = {}  # what is told, by descriptor
        self._listeners: dict[Port, Listener] = {}  # of those on trial
        self._ended: list[int] = []

    def __len__(self) -> int:
        return len(self._ports)

    def add(self, port: Port) -> int:
        """Its number."""
        number = next(self._numbers)
        self._watch(port)
        self._ports[number] = port
        self._by_fd[port.sock.fileno()] = number
        return number

    def find(self, number: int, command: str) -> Port:
        """NotASocket of `command` when it is closed."""
        port = self._ports.get(number)
        if port is None:
            raise answer(command, errno.ENOTSOCK, "")
        return port

    def remove(self, number: int) -> None:
        """Gives the socket back; of a listener those on trial are closed, too."""
        port = self._ports.pop(number)
        if isinstance(port, Listener):
            for trial in port.trials:
                self.remove(self._by_fd[trial.sock.fileno()])
        self._end_trial(port)
        port.closing = True
        self._watch(port)
        del self._by_fd[port.sock.fileno()]
        port.close()

    def changed(self, port: Port) -> None:
        """The driver has taken or released it."""
        if port.peers:
            self._end_trial(port)
        self._settle(port)

    def receive(self, maximum: int) -> list[tuple[int, Packet]]:
        """What has come, each with the number of its socket."""
        found = self._take_early(maximum)
        places = min(READY_MAX, maximum - len(found))
        # epoll puts those it has told of behind the others: no more of them than get their turn.
        ready = self.epoll.poll(0, places) if places else []
        for turn, (fd, _) in enumerate(ready):
            number = self._by_fd.get(fd)
            room = (maximum - len(found)) // (len(ready) - turn)
            if number is None:
                continue
            port = self._ports[number]
            if isinstance(port, Listener):
                self._accept(port)
            else:
                found += ((number, packet) for packet in port.receive(room))
            self._settle(port)
        self.packets += len(found)
        return found

    def look_for_ends(self) -> None:
        """Finds connections of the driver that have come to their end, for `ended`. What came
        before is kept for `receive`."""
        for fd, _ in self.ends.poll(0):
            number = self._by_fd[fd]
            port = self._ports[number]
            self._early += ((number, packet) for packet in port.receive(EARLY_MAX))
            self._settle(port)
        if self._early:
            self._bell.ring()

    def _take_early(self, maximum: int) -> list[tuple[int, Packet]]:
        found, self._early = self._early[:maximum], self._early[maximum:]
        if found and not self._early:
            self._bell.silence()
        return found

    def ended(self) -> Iterator[tuple[int, Port]]:
        """Those that have come to an end since this was last asked."""
        ended, self._ended = self._ended, []
        return ((number, self._ports[number]) for number in ended if number in self._ports)

    def close(self) -> None:
        """Gives all sockets back."""
        for number in list(self._ports):
            if number in self._ports:  # or it went with its listener
                self.remove(number)
        self.ends.close()
        self._bell.ring()  # whoever waits is woken, from now on

    def forget(self) -> None:
        """In a forked child: closes what was inherited."""
        for poll in (self.epoll, self.ends):
            poll.close()
        self._bell.close()
        for port in self._ports.values():
            port.forget()

    # Steps

    def _accept(self, listener: Listener) -> None:
        for port in listener.expired():
            port.expire()
            self._end_trial(port)
            self._settle(port)  # whoever has been told of it closes it
        for port in listener.accept():
            self._listeners[port] = listener
            try:
                self.add(port)
            except OSError:  # epoll has no room for it
                self._end_trial(port)
                port.close()

    def _end_trial(self, port: Port) -> None:
        listener = self._listeners.pop(port, None)
        if listener is not None and isinstance(port, TcpPort):
            listener.end_trial(port)

    def _settle(self, port: Port) -> None:
        """After anything that may have changed it."""
        number = self._by_fd[port.sock.fileno()]
        if port.ended is not None and not port.told:
            port.told = True
            if isinstance(port, TcpPort) and not port.heard:
                self.remove(number)  # nobody has known of it
                return
            self._ended.append(number)
        self._watch(port)

    def _watch(self, port: Port) -> None:
        """Nothing of interest: not in epoll at all, which else tells of errors again and again."""
        open_ = not port.closing and port.ended is None
        self._set(self.epoll, port, port.interest if open_ else 0)
        self._set(self.ends, port, select.EPOLLRDHUP if open_ and port.driven else 0)

    def _set(self, poll: select.epoll, port: Port, wanted: int) -> None:
        fd = port.sock.fileno()
        before = self._watched.pop((poll, fd), 0)
        if wanted and before:
            poll.modify(fd, wanted)
        elif wanted:
            poll.register(fd, wanted)
        elif before:
            poll.unregister(fd)
        if wanted:
            self._watched[poll, fd] = wanted
