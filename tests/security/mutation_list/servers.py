"""Sessions of a server against each other: places, addresses, limits."""

from __future__ import annotations

from .mutation import Mutation

TABLE = "ovpn_dco/protocol/table.py"
SERVER = "ovpn_dco/server/server.py"
CONNECTION = "ovpn_dco/server/connection.py"
POOL = "ovpn_dco/server/pool.py"


def table(name: str) -> str:
    return f"tests/protocol/test_table.py::{name}"


def servers(name: str) -> str:
    return f"tests/security/test_server_sessions.py::{name}"


def unit(file: str, name: str) -> str:
    return f"tests/server/{file}.py::{name}"


MUTATIONS = [
    # The table
    Mutation(
        "newcomer-displaces-before-login",
        table("test_a_newcomer_that_never_logs_in_changes_nothing"),
        TABLE,
        """        if place.newcomer is not None:
            self._displace(place.newcomer)
        place.newcomer = session
""",
        """        for other in list(place):
            self._displace(other)
        place.newcomer = session
""",
    ),
    Mutation(
        "late-packets-open-a-session",
        table("test_late_packets_do_not_bring_a_session_back"),
        TABLE,
        "        if (path, session_id) in self._over:\n",
        "        if (path, header.session_id) in ():\n",
    ),
    Mutation(
        "negotiations-without-limit",
        table("test_limit_of_negotiations"),
        TABLE,
        "        if len(self._negotiating) >= self._max_negotiating:\n",
        "        if not self._max_negotiating:\n",
    ),
    Mutation(
        "refused-sessions-not-counted",
        table("test_who_is_refused_counts_until_it_is_over"),
        TABLE,
        "        if isinstance(event, PeerReady) and not session.is_finished:\n",
        """        self._negotiating.discard(session)
        if isinstance(event, PeerReady) and not session.is_finished:
""",
    ),
    Mutation(
        "admissions-without-limit",
        table("test_limit_of_admissions"),
        TABLE,
        "if self._admissions is not None and not self._admissions.take(now):",
        "if self._admissions is not None and self._admissions.take(now) is None:",
    ),
    Mutation(
        "second-session-of-a-connection",
        table("test_a_connection_has_one_session"),
        TABLE,
        "        if stream and path in self._places:\n",
        "        if stream and path in ():\n",
    ),
    Mutation(
        "control-packets-float",
        table("test_control_packets_do_not_move_a_session"),
        TABLE,
        "        for session in self._places.get(path, ()):\n",
        "        for session in list(self._paths):\n",
        (
            (
                TABLE,
                "                session.receive(data, path.address, now)\n",
                """                self.move(session, path)
                session.receive(data, path.address, now)
""",
            ),
        ),
    ),
    # Addresses of others
    Mutation(
        "float-onto-anybody",
        servers("test_a_client_cannot_take_the_address_of_another_one"),
        CONNECTION,
        "        return not same or mine.common_name == NO_NAME\n",
        "        return mine.common_name == NO_NAME\n",
    ),
    Mutation(
        "float-onto-a-namesake",
        servers("test_a_client_with_the_same_name_neither"),
        CONNECTION,
        "if mine is None or theirs is None or self._shared.config.pool.duplicate_cn:",
        "if mine is None or theirs is None:",
    ),
    Mutation(
        "float-ends-itself",
        servers("test_an_address_that_was_left_can_be_taken"),
        SERVER,
        "        if owner is connection:  # it came there in the meantime\n",
        "        if owner is self:  # it came there in the meantime\n",
    ),
    # Places of others
    Mutation(
        "peer-ids-do-not-rest",
        servers("test_a_goodbye_of_the_peer_before_does_not_reach_the_next_one"),
        POOL,
        "        if len(self._released) >= RESTING:\n",
        "        if self._released:\n",
    ),
    Mutation(
        "max-clients-not-counted",
        unit("test_server", "test_max_clients"),
        POOL,
        "        if len(self._held) - (instead_of in self._held) >= self._limit:\n",
        "        if self._limit < 1:\n",
    ),
    Mutation(
        "displaced-before-accepted",
        unit("test_server", "test_who_cannot_come_in_displaces_nobody"),
        POOL,
        "                self._hold(instead_of)\n",
        "                pass\n",
        (
            (
                CONNECTION,
                "        self._peer_id = shared.peer_ids.acquire(",
                """        if before is not None:
            before.close(EndReason.SUPERSEDED)
        self._peer_id = shared.peer_ids.acquire(""",
            ),
        ),
    ),
    Mutation(
        "failed-check-of-a-key-lets-in",
        servers("test_a_check_of_keys_that_fails_lets_nobody_in"),
        SERVER,
        "            return False\n",
        "            return True\n",
    ),
    Mutation(
        "events-after-the-end",
        unit("test_server", "test_nothing_is_heard_of_a_client_after_its_end"),
        CONNECTION,
        """        if self._over:
            return
        match event:""",
        "        match event:",
    ),
]
