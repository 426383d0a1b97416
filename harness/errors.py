"""The three errors of the harness: each says who is at fault."""

from __future__ import annotations

from enum import Enum


class HarnessError(Exception):
    """Base of every error that the harness raises on purpose."""


class RigError(HarnessError):
    """The bench is wrong: a file, a port, a radio. The run stops; nothing is said about any device."""


class LocalProtocolError(HarnessError):
    """We are wrong: the harness or the test asked for something that the protocol does not allow."""


class RemoteProtocolError(HarnessError):
    """The device is wrong: what it sent is not what the protocol says. The only error that hostile bytes may cause.

    `code` is why it refuses what it was asked, where there is a code for that.
    """

    def __init__(self, *args: object, code: Enum | None = None) -> None:
        super().__init__(*args)
        self.code = code
