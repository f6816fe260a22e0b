"""The choice of cases, without any traffic."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from interop.cases import CIPHERS, Derivation, Transport, Wrap, all_cases, pairwise, values

from ovpn_dco.protocol.role import Role

DIMENSIONS: tuple[Iterable[object], ...] = (Role, Transport, Wrap, CIPHERS, Derivation)


def test_the_matrix_has_every_combination_once() -> None:
    assert len({str(case) for case in all_cases()}) == 2 * 2 * 4 * 3 * 2


def test_every_two_values_meet_in_the_chosen_few() -> None:
    chosen = pairwise(all_cases())
    for one, other in itertools.combinations(DIMENSIONS, 2):
        for two in itertools.product(one, other):
            assert any(set(two) <= set(values(case)) for case in chosen), two


def test_the_gate_can_afford_them() -> None:
    assert len(pairwise(all_cases())) <= 14


def test_either_implementation_renews_keys_in_either_role() -> None:
    seen = {(case.ours, case.renews) for case in pairwise(all_cases())}
    assert seen == set(itertools.product(Role, Role))
