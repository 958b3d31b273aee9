"""Which calls may be made again, and when. No clock and no sleep in here: who calls passes the time in.

Two kinds of call are made again: reads, and changes with a request id, which the vault does once however often they
come. All attempts share one deadline.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .errors import LetheError, ResourceExhausted, Unavailable

DEADLINE_DEFAULT = 30.0
DEADLINE_MAX = 60.0
ATTEMPTS_MAX = 4
PAUSE_FIRST = 0.1


def check_deadline(seconds: float) -> float:
    """The deadline of a call."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= DEADLINE_MAX:
        raise ValueError(f"deadline: must be more than 0 and at most {DEADLINE_MAX:.0f} seconds")
    return float(seconds)


def interrupted(error: LetheError) -> bool:
    """The vault was not reached, left, or was full: another attempt may fare better."""
    return isinstance(error, (Unavailable, ResourceExhausted))


class Attempts:
    """The attempts of one call."""

    def __init__(self, again: bool, deadline: float, now: float, share: Callable[[], float] = random.random) -> None:
        self._again = again
        self._end = now + deadline
        self._share = share
        self._made = 0

    def remaining(self, now: float) -> float:
        """What is left for the attempt that begins now; counts it."""
        self._made += 1
        # gRPC takes no time at all for no limit in some places; a moment is as good.
        return max(self._end - now, 0.001)

    def pause_after(self, error: LetheError, now: float) -> float | None:
        """How long to wait before the next attempt; `None` if there is to be none."""
        if not self._again or not interrupted(error) or self._made >= ATTEMPTS_MAX:
            return None
        whole = PAUSE_FIRST * 2 ** (self._made - 1)
        # A random half, so that clients do not come back in step.
        pause: float = whole / 2 + whole / 2 * self._share()
        return pause if now + pause < self._end else None
