"""The kernel's driver as a back end: its sockets and peers."""

from __future__ import annotations

from .mutation import Mutation

PORT = "ovpn_dco/backend/kernel/port.py"
UDP = "ovpn_dco/backend/kernel/udp.py"
TCP = "ovpn_dco/backend/kernel/tcp.py"
PORTS = "ovpn_dco/backend/kernel/ports.py"
LISTENER = "ovpn_dco/backend/kernel/listener.py"
PEERS = "ovpn_dco/backend/kernel/peers.py"
EVENTS = "ovpn_dco/backend/kernel/events.py"
BACKEND = "ovpn_dco/backend/kernel/backend.py"
CHOICE = "ovpn_dco/backend/choice.py"
REMAINS = "ovpn_dco/backend/kernel/remains.py"
WITHOUT = "ovpn_dco/backend/without.py"


def of_sockets(name: str) -> str:
    return f"tests/unit/test_kernel_sockets.py::{name}"


def of_ports(name: str) -> str:
    return f"tests/unit/test_kernel_ports.py::{name}"


def of_peers(name: str) -> str:
    return f"tests/unit/test_kernel_peers.py::{name}"


def of_backend(name: str) -> str:
    return f"tests/unit/test_kernel_backend.py::{name}"


def of_choice(name: str) -> str:
    return f"tests/unit/test_choice.py::{name}"


MUTATIONS = [
    Mutation(
        "kernel-udp-shut-down",
        of_sockets("test_a_shut_down_udp_socket_ends_once"),
        UDP,
        "if not found and is_shut(self.sock):",
        "if False:",
    ),
    Mutation(
        "kernel-udp-errors-for-ever",
        of_sockets("test_errors_that_go_on_do_not_hold_the_caller"),
        UDP,
        "for _ in range(maximum):",
        "for _ in range(1 << 20):",
    ),
    Mutation(
        "kernel-udp-unbound",
        of_sockets("test_what_is_no_bound_udp_socket_is_refused"),
        UDP,
        "if not sock.getsockname()[1]:",
        "if False:",
    ),
    Mutation(
        "kernel-tcp-low-water-stays",
        of_sockets("test_a_short_frame_behind_a_long_one_is_told"),
        TCP,
        "            self._set_low_water(1)  # the next one may be shorter\n",
        "",
    ),
    Mutation(
        "kernel-tcp-no-low-water",
        of_sockets("test_an_unfinished_frame_does_not_wake"),
        TCP,
        "        self._set_low_water(size)\n",
        "",
    ),
    Mutation(
        "kernel-tcp-data-before-a-peer",
        of_sockets("test_the_first_data_packet_is_left_to_the_driver"),
        TCP,
        "elif len(head) == 3 and head[2] >> 3 == DATA_V2:",
        "elif False:",
    ),
    Mutation(
        "kernel-tcp-frame-size",
        of_sockets("test_what_ends_a_connection"),
        TCP,
        "not 0 < size <= TRIAL_FRAME_MAX:",
        "not 0 < size:",
    ),
    Mutation(
        "kernel-tcp-queue-bound",
        of_sockets("test_packets_wait_for_a_slow_reader_and_are_bounded"),
        TCP,
        "if len(self._waiting) + len(frame) > WAITING_MAX:",
        "if len(self._waiting) + len(frame) > 2 * WAITING_MAX:",
    ),
    Mutation(
        "kernel-starved-socket",
        of_ports("test_each_of_many_has_its_turn"),
        PORTS,
        "self.epoll.poll(0, places) if places else []",
        "self.epoll.poll(0, READY_MAX)[:places]",
    ),
    Mutation(
        "kernel-ended-socket-wakes",
        of_ports("test_an_end_is_told_once_and_wakes_no_more"),
        PORTS,
        "open_ = not port.closing and port.ended is None",
        "open_ = not port.closing",
    ),
    Mutation(
        "kernel-silent-connection-told",
        of_ports("test_a_connection_is_told_of_by_its_first_packet"),
        PORTS,
        "if isinstance(port, TcpPort) and not port.heard:",
        "if False:",
    ),
    Mutation(
        "kernel-trials",
        of_ports("test_trials_are_limited"),
        LISTENER,
        "len(self._trials) >= limits.trials_max",
        "len(self._trials) > limits.trials_max",
    ),
    Mutation(
        "kernel-trials-of-a-source",
        of_ports("test_trials_are_limited"),
        LISTENER,
        "self._sources[source] >= limits.trials_per_source_max",
        "self._sources[source] > limits.trials_per_source_max",
    ),
    Mutation(
        "kernel-trial-deadline",
        of_ports("test_time_is_over_when_the_next_one_knocks"),
        LISTENER,
        "if trial.until_s <= now_s]",
        "if trial.until_s < 0]",
    ),
    Mutation(
        "kernel-no-descriptors-left",
        of_ports("test_without_descriptors_connections_are_turned_away"),
        LISTENER,
        "            self.sock.accept()[0].close()\n",
        "            pass\n",
    ),
    Mutation(
        "kernel-address-of-another-peer",
        of_peers("test_an_address_has_one_owner_until_that_goes"),
        PEERS,
        "if ip and self._owners.get(ip, peer) is not peer:",
        "if False:",
    ),
    Mutation(
        "kernel-peer-without-address",
        of_peers("test_a_peer_keeps_an_address"),
        PEERS,
        "if self._mode is Mode.MULTIPEER and not ipv4 and not ipv6:",
        "if False:",
    ),
    Mutation(
        "kernel-too-many-peers",
        of_peers("test_refusals_of_a_new_peer"),
        PEERS,
        "if len(self._living) >= self._max:",
        "if len(self._living) > self._max:",
    ),
    Mutation(
        "kernel-unread-deletions",
        of_peers("test_deletions_that_nobody_reads_of_are_bounded"),
        PEERS,
        "if unread >= self._max:",
        "if unread > self._max:",
    ),
    Mutation(
        "kernel-handle-of-an-earlier-peer",
        of_peers("test_generations_tell_peers_apart"),
        PEERS,
        "if peer is None or generation not in (0, peer.generation):",
        "if peer is None:",
    ),
    Mutation(
        "kernel-deletions-counted-twice",
        of_peers("test_deletions_are_counted_until_they_are_read"),
        EVENTS,
        " and key not in self._events\n",
        "\n",
    ),
    Mutation(
        "kernel-teardown-is-zero",
        of_backend("test_the_driver_says_why_a_peer_went"),
        BACKEND,
        "reason = _likely(peer) if reason is None else reason",
        "reason = reason or _likely(peer)",
    ),
    Mutation(
        "kernel-second-peer-of-a-connection",
        of_backend("test_a_connection_that_ends_takes_its_peer_along"),
        BACKEND,
        "if port.peers and self._mode is Mode.MULTIPEER:",
        "if False:",
    ),
    Mutation(
        "kernel-same-key-id-twice",
        of_backend("test_keys"),
        BACKEND,
        "if other is not None and other[0] == key.key_id:",
        "if False:",
    ),
    Mutation(
        "kernel-tx-id-of-an-older-driver",
        of_backend("test_an_older_driver_has_one_id_for_both_ways"),
        BACKEND,
        "if not own and Feature.ASYMMETRIC_IDS not in self.features:",
        "if False:",
    ),
    Mutation(
        "kernel-end-behind-the-interface",
        of_backend("test_an_end_is_told_though_the_interface_has_gone"),
        BACKEND,
        "with contextlib.suppress(DcoError):  # it went before, or the interface has",
        "with contextlib.suppress(NotFound):",
    ),
    Mutation(
        "kernel-options-of-a-failed-attach",
        of_backend("test_an_attach_that_fails_leaves_nothing"),
        BACKEND,
        "            undo.callback(port.close)\n",
        "",
    ),
    Mutation(
        "kernel-descriptor-of-a-failed-attach",
        of_backend("test_an_attach_that_fails_leaves_nothing"),
        PORT,
        "        os.close(fd)\n        raise\n",
        "        raise\n",
    ),
    Mutation(
        "choice-no-feature",
        of_choice("test_what_is_no_feature"),
        CHOICE,
        "if not isinstance(feature, Feature):",
        "if False:",
    ),
    Mutation(
        "choice-without-permission",
        of_choice("test_a_driver_that_cannot_be_used"),
        CHOICE,
        "errno.EOPNOTSUPP if found.permitted else errno.EPERM",
        "errno.EOPNOTSUPP",
    ),
    Mutation(
        "choice-lacking-feature",
        of_choice("test_what_the_driver_does_not_have"),
        CHOICE,
        "sorted(needs.keys() - _kernel_features(family), key=lambda one: one.name)",
        "()",
    ),
    Mutation(
        "without-setting",
        of_choice("test_refusals_say_what_to_require"),
        WITHOUT,
        "if not _means_nothing(setting):",
        "if False:",
    ),
    Mutation(
        "kernel-expired-connection-untold",
        of_ports("test_the_time_of_a_connection_that_has_spoken_is_over"),
        PORTS,
        "            port.expire()\n",
        "            port.heard = False\n            port.expire()\n",
    ),
    Mutation(
        "kernel-default-timeout",
        of_ports("test_a_default_timeout_means_nothing_here"),
        PORT,
        "if sock.gettimeout() is not None:",
        "if False:",
    ),
    Mutation(
        "kernel-remains-of-anybody",
        "tests/unit/test_kernel_remains.py::test_what_is_not_marked_is_somebodys",
        REMAINS,
        "        if link.alias != MARK:\n            return False\n",
        "",
    ),
    Mutation(
        "kernel-remains-of-the-living",
        "tests/unit/test_kernel_remains.py::test_what_nobody_has_any_more_is_removed",
        REMAINS,
        '        sign.bind(f"\\0ovpn_dco/interface/{ifindex}")\n',
        "        pass\n",
    ),
]
