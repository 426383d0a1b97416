"""How a device becomes a member of its network over an NCP: it resumes it, joins it, or rejoins it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from bellows.types import sl_Status

from harness.emulation.host import JOIN_RETRY
from harness.emulation.node import NodeKind
from harness.radio.device_ezsp import (
    MEMBERSHIP_TIMEOUT,
    DeviceEzsp,
    FoundNetwork,
    why_not,
    why_not_joined,
)
from harness.wire.mac import format_eui64

REJOIN_BACKOFF = 2.0  # seconds, doubled with each attempt in vain ...
REJOIN_BACKOFF_LONGEST = 600.0  # ... up to this
REJOINS_ON_ITS_CHANNEL = 3  # then the network may have moved: on all channels


@dataclass(frozen=True, slots=True)
class NetworkUp:
    """The device is on its network, under the NWK address `short`."""

    short: int


@dataclass(frozen=True, slots=True)
class NetworkDown:
    """The device is on its network no more: it left, lost its parent or its radio, or has no power."""


class Membership:
    """The membership of one device; arguments are those of `Joiner`.

    `on_link_key` is called when the NCP was given the link key to join with.
    """

    def __init__(
        self,
        link_key: bytes,
        kind: NodeKind,
        extended_pan_id: int | None,
        channels: tuple[int, ...],
        *,
        on_link_key: Callable[[], None],
    ) -> None:
        self._link_key = link_key
        self._kind = kind
        self._extended_pan_id = extended_pan_id
        self._channels = channels
        self._on_link_key = on_link_key
        self._ended: asyncio.Future[sl_Status] | None = None  # how what is under way ends
        self.down = asyncio.Event()
        """Set when the network went down since the last beginning of any of these."""
        self.recognised = False
        """Whether the network that the NCP holds is known to be the right one."""
        self.failure: str | None = None
        """Why the last attempt to join or to rejoin failed; None after one that did not."""

    def told(self, status: sl_Status) -> bool:
        """Take a status of the NCP's stack; whether it is how what is under way ended."""
        if self._ended is None:
            return False
        if not self._ended.done():
            self._ended.set_result(status)
        return True

    async def _end_of(self, beginning: Coroutine[Any, Any, sl_Status]) -> sl_Status:
        """Return how what the NCP is asked to begin ends: NETWORK_UP, or why not."""
        self.down.clear()
        self._ended = asyncio.get_running_loop().create_future()
        try:
            status = await beginning
            if status == sl_Status.OK:
                try:
                    async with asyncio.timeout(MEMBERSHIP_TIMEOUT):
                        status = await self._ended
                except TimeoutError:
                    status = sl_Status(sl_Status.TIMEOUT)
        finally:
            self._ended = None
        return status

    async def resume(self, ezsp: DeviceEzsp) -> bool | None:
        """Go on with the network that the NCP holds; None when none serves, True if nobody heard of it."""
        status = await self._end_of(ezsp.resume(self._kind))
        if status == sl_Status.NOT_JOINED:
            return None
        # Before it is looked for: a network of yesterday may be there no more, and nobody would ever let it in.
        if not self.recognised and not await ezsp.fits(self._kind, self._extended_pan_id):
            await self._end_of(ezsp.leave())
            return None
        if status != sl_Status.NETWORK_UP:
            await self.rejoin(ezsp)
        return status == sl_Status.NETWORK_UP and self._kind == NodeKind.ROUTER

    async def join(self, ezsp: DeviceEzsp) -> None:
        """Become a member of a network, however long it takes."""
        while True:
            self.failure = await self._try_to_join(ezsp)
            if self.failure is None:
                return
            await asyncio.sleep(JOIN_RETRY)

    async def _try_to_join(self, ezsp: DeviceEzsp) -> str | None:
        """Join the best network that lets this device in; return why none did."""
        networks = await ezsp.scan(self._channels)
        # One NCP tells of a network once, another once for each router in reach.
        fitting: dict[tuple[int, int], FoundNetwork] = {}
        for found in networks:
            if self._extended_pan_id in (None, found.extended_pan_id) and found.is_open:
                fitting.setdefault((found.extended_pan_id, found.network.channel), found)
        if not fitting:
            wanted = "" if self._extended_pan_id is None else f" {format_eui64(self._extended_pan_id)}"
            return (
                f"no network{wanted} is open on channels {list(self._channels)} "
                f"({len(networks)} networks heard)"
            )
        failures = []
        for found in fitting.values():
            status = await ezsp.pre_configure(self._link_key)
            if status == sl_Status.OK:
                self._on_link_key()
                status = await self._end_of(ezsp.associate(self._kind, found))
            if status == sl_Status.NETWORK_UP:
                return None
            failures.append(why_not_joined(found, status))
        return "; ".join(failures)

    async def rejoin(self, ezsp: DeviceEzsp) -> None:
        """Come back to the network that the NCP holds, however long it takes."""
        for attempt in itertools.count(1):
            everywhere = attempt > REJOINS_ON_ITS_CHANNEL
            status = await self._end_of(ezsp.rejoin(self._kind, self._channels if everywhere else ()))
            if status == sl_Status.NETWORK_UP:
                self.failure = None
                return
            self.failure = f"its network does not let it rejoin: {why_not(status)}"
            await asyncio.sleep(min(REJOIN_BACKOFF * 2 ** min(attempt - 1, 10), REJOIN_BACKOFF_LONGEST))
