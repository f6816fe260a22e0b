"""What an operator hears of refused control packets: a line now and then, however many come."""

from __future__ import annotations

import logging
from collections import Counter

__all__ = ["RefusalReport"]

_log = logging.getLogger("ovpn_dco.server")


class RefusalReport:
    """Tells what was counted since it told last."""

    def __init__(self) -> None:
        self._told: Counter[str] = Counter()

    def tell(self, refusals: Counter[str]) -> None:
        """One line in the log, the most frequent first; none if there is no news."""
        news = refusals - self._told
        if news:
            counts = ", ".join(f"{count} {label}" for label, count in news.most_common())
            _log.info("refused packets: %s", counts)
            self._told = Counter(refusals)
