"""What an OTA client is configured with, keeps in storage, and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from harness.wire.image import STACK_PRO
from harness.wire.ota_messages import (
    BlockRefusal,
    ImageBlock,
    QueryNextImageResponse,
    UpgradeEndResponse,
    VersionPolicy,
    WaitForData,
)

SMALLEST_FILE: Final = 56  # ZCL8 11.4.2: a header without options
NO_SERVER: Final = 0xFFFFFFFFFFFFFFFF  # ZCL8 11.10.1


@dataclass(frozen=True, slots=True)
class OtaClientConfig:
    """Who an OTA client is, and what it does where the standard leaves it a choice. Times in seconds.

    "Ember" marks what the EmberZNet client does, the ancestor of many GB devices.
    """

    manufacturer: int
    image_type: int
    hardware_version: int | None = None
    stack_version: int = STACK_PRO
    block_size: int = 56  # what one frame carries under network and APS security, see OtaServerConfig
    page_size: int = 0  # octets that one Image Page Request asks for; 0: block by block
    page_spacing_ms: int = 50  # assumed: response spacing of a page
    keeps_block_period: bool = True  # whether it has the MinimumBlockPeriod attribute, ZCL8 11.10.10
    start_jitter: float = 255.0  # Ember: the first query comes 0 to 255 s after the network is up
    query_interval: float = 3600.0  # assumed: between queries that found nothing
    # Whether it queries of its own accord. False: only when its owner or a notification says so, and after a failure.
    unprompted: bool = True
    requery_delay: float = 5.0  # assumed: from a download that was aborted to the next query
    response_timeout: float = 3.0  # Ember
    back_off: float = 2.0  # Ember: from a time-out to the next attempt
    error_threshold: int = 10  # Ember: failures in a row that abort a download, or lose the server
    longest_wait: float = 3600.0  # Ember: WAIT_FOR_DATA is obeyed for 60 min at most
    wait_after_bad_time: float = 300.0  # Ember: a request time before the current one
    verify_seconds: float = 1.0  # assumed: how long it takes to check an image
    activation_delay: float = 3.0  # Ember: "now" is 3 s later, so that acknowledgements get out
    end_retry: float = 60.0  # assumed: between Upgrade End Requests that nobody answers
    wait_interval: float = 3600.0  # Ember: between Upgrade End Requests while told to wait
    wait_threshold: int = 10  # Ember: unanswered Upgrade End Requests before it upgrades anyway ...
    upgrades_unanswered: bool = True  # ... unless UpgradeTimeoutPolicy (ZCL8 11.10.13) is 0x01
    storage_limit: int = 1 << 20  # assumed: octets of the largest file it has room for
    version_policy: VersionPolicy = VersionPolicy.DIFFERENT  # assumed

    def refusal(self, running: int, version: int, size: int) -> str | None:
        """Why an image is not taken, None when it is."""
        if size > self.storage_limit:
            return f"{size} octets, room for {self.storage_limit}"
        return None if self.version_policy.allows(running, version) else f"version {running:#010x} runs"


@dataclass(slots=True)
class OtaStorage:
    """What a client keeps in non-volatile storage: the file as far as it has come, and whether it was found good."""

    version: int | None = None
    size: int = 0
    data: bytearray = field(default_factory=bytearray)
    verified: bool = False

    @property
    def begins(self) -> ClientState:
        """Where a client begins that finds this."""
        if self.version is None:
            return ClientState.IDLE
        if self.verified:
            return ClientState.ENDING
        return ClientState.VERIFYING if len(self.data) == self.size else ClientState.DOWNLOADING

    def begin(self, version: int, size: int) -> None:
        """Make room for another file, unless a part of this very one is there."""
        if (self.version, self.size) != (version, size):
            self.clear()
            self.version, self.size = version, size

    def clear(self) -> None:
        """Drop the file."""
        self.version, self.size, self.verified = None, 0, False
        self.data = bytearray()


class ClientState(IntEnum):
    """Where an OTA client is."""

    OFFLINE = 0  # no network or no server
    IDLE = 1  # between queries
    QUERYING = 2
    DOWNLOADING = 3
    VERIFYING = 4
    ENDING = 5  # its Upgrade End Request is out, or waits for its next turn
    COUNTDOWN = 6
    DUE = 7  # told its owner to upgrade


# In which states an answer is one; elsewhere it is refused with FAILURE (Ember).
EXPECTED: Final[Mapping[type, tuple[ClientState, ...]]] = {
    QueryNextImageResponse: (ClientState.QUERYING,),
    ImageBlock: (ClientState.DOWNLOADING,),
    WaitForData: (ClientState.DOWNLOADING,),
    BlockRefusal: (ClientState.DOWNLOADING,),
    UpgradeEndResponse: (ClientState.ENDING, ClientState.COUNTDOWN),
}


class UpgradeStatus(IntEnum):
    """ImageUpgradeStatus, ZCL8 11.10.7, as far as a client of this harness goes."""

    NORMAL = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    WAITING = 3
    COUNT_DOWN = 4


_UPGRADE_STATUS: Final[Mapping[ClientState, UpgradeStatus]] = {
    ClientState.OFFLINE: UpgradeStatus.NORMAL,
    ClientState.IDLE: UpgradeStatus.NORMAL,
    ClientState.QUERYING: UpgradeStatus.NORMAL,
    ClientState.DOWNLOADING: UpgradeStatus.DOWNLOADING,
    ClientState.VERIFYING: UpgradeStatus.DOWNLOADED,
    ClientState.ENDING: UpgradeStatus.DOWNLOADED,
    ClientState.COUNTDOWN: UpgradeStatus.COUNT_DOWN,
    ClientState.DUE: UpgradeStatus.COUNT_DOWN,
}


def upgrade_status(state: ClientState, storage: OtaStorage, *, told_to_wait: bool) -> UpgradeStatus:
    """ImageUpgradeStatus of a client; `told_to_wait` by the last Upgrade End Response."""
    if told_to_wait and state in (ClientState.ENDING, ClientState.QUERYING):
        return UpgradeStatus.WAITING
    if state == ClientState.OFFLINE and storage.version is not None:
        return UpgradeStatus.DOWNLOADED if storage.verified else UpgradeStatus.DOWNLOADING
    return _UPGRADE_STATUS[state]


@dataclass(frozen=True, slots=True)
class DownloadStarted:
    """The server has an image for this client, which begins, or goes on, at `offset`."""

    version: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class DownloadCompleted:
    """The whole file is in storage, not yet verified."""

    version: int


@dataclass(frozen=True, slots=True)
class DownloadAborted:
    """A download ended early and what had come of it was dropped."""

    version: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImageRefused:
    """The server's image is not taken."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImageVerified:
    """The file in storage was checked; a bad one was dropped."""

    version: int
    good: bool


@dataclass(frozen=True, slots=True)
class UpgradeScheduled:
    """The server answered when to upgrade: in `seconds`, or None: when it says so."""

    version: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class UpgradeDue:
    """Now is the time to run the verified image in storage."""

    version: int


@dataclass(frozen=True, slots=True)
class ServerLost:
    """The server did not answer `error_threshold` queries: it has to be discovered again."""
