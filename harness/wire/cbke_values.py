"""What is said of a key establishment outside of it: what a device does by its own choice, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.wire.cbke_messages import TerminateStatus
from harness.wire.certificates import SUITE_1, SUITE_2


@dataclass(frozen=True, slots=True)
class KeyEstablishmentConfig:
    """What a device does where the standard leaves it a choice. Times in seconds; mappings by suite."""

    # What the stacks of the market state: their arithmetic takes them 10 and 15 s on suite 1, twice that on suite 2.
    ephemeral_time: Mapping[int, int] = field(default_factory=lambda: {SUITE_1: 11, SUITE_2: 22})
    confirm_time: Mapping[int, int] = field(default_factory=lambda: {SUITE_1: 16, SUITE_2: 32})
    slack: float = 10.0  # what the way takes, on top of the time that the partner asked for
    wait_time: int = 30  # told to a partner that is turned away
    own_wait_time: float = 10.0  # before a new try, when the partner has named no time
    # Assumed: a partner that fell silent is told, so that it need not wait for its own time-out, nor keep a key that
    # only it believes in.
    terminates_on_silence: bool = True


@dataclass(frozen=True, slots=True)
class KeyEstablished:
    """Both sides have proved that they hold the new link key, which takes the place of the one before.

    A responder has its proof one message before the initiator has: see `KeyRejected`.
    """

    partner: int
    key: bytes = field(repr=False)
    suite: int
    initiator: bool


@dataclass(frozen=True, slots=True)
class KeyRejected:
    """The initiator would not have the key of the `KeyEstablished` just before: the one before that is used again."""

    partner: int
    status: TerminateStatus
    retry_after: float
    reason: str


@dataclass(frozen=True, slots=True)
class KeyEstablishmentFailed:
    """A key establishment came to nothing, or a partner was turned away; the link key stays what it was.

    `status` is what the Terminate said, or would have; None when the partner fell silent or has no such cluster.
    `by_us` says who ended it. Trying again makes sense after `retry_after` seconds.
    """

    partner: int
    status: TerminateStatus | None
    by_us: bool
    retry_after: float
    reason: str
