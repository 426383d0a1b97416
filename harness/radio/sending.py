"""Sends a behaviour's messages through an NCP: broadcasts, unicasts, and long unicasts in APS fragments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import zigpy.exceptions
from bellows.ash import AshException
from bellows.exception import EzspError
from bellows.types import EmberApsFrame, EmberApsOption, sl_Status

from harness.errors import LocalProtocolError
from harness.radio.fragments import ORDER_CHANGED
from harness.wire.application import ApsMessage

MOST_UNICASTS = 8  # on their way at a time, as zigpy has it for a coordinator with room for few
# Seconds until a message without a word from the NCP has failed. The NCP speaks first: even for a sleepy device that is
# 4 attempts of 7.68 s.
DELIVERY_TIMEOUT = 40.0

LONGEST_MESSAGE = 1600  # octets in fragments: a tunnelled message of 1500 and the headers before it
BLOCK_RETRIES = (
    3  # Zigbee PRO (05-3474-21) 2.2.7.1, apscMaxFrameRetries; the NCP has retries of its own below them
)
USUAL_ROOM = 82  # octets of payload that one frame holds, until the NCP has said it itself
# What security under a link key takes of a frame's payload (auxiliary header, MIC), and the header of a fragment.
_SECURITY_OCTETS = 9
_FRAGMENT_OCTETS = 2

# How bellows says that a command did not come through; RuntimeError is what it raises on a port that closed meanwhile.
NOT_SENT = (zigpy.exceptions.ZigbeeException, EzspError, AshException, TimeoutError, RuntimeError)


def reason_of(error: BaseException) -> str:
    """Say why, for a reader: a time-out has no words of its own."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _expire(delivered: asyncio.Future[sl_Status]) -> None:
    if not delivered.done():
        delivered.set_exception(TimeoutError())


class Sender:
    """The messages of one NCP on their way.

    `ezsp` gives bellows' EZSP object of the moment, or raises one of NOT_SENT; `tag` gives the number under which the
    NCP tells what became of a message, another each time. zigpy's packets are left out: they are a sixth of the cost of
    a block.
    """

    def __init__(self, ezsp: Callable[[], Any], tag: Callable[[], int]) -> None:
        self._ezsp = ezsp
        self._tag = tag
        self._under_way = asyncio.Semaphore(MOST_UNICASTS)
        self._on_their_way: dict[tuple[int, int], asyncio.Future[sl_Status]] = {}
        self._headers: dict[tuple[int, ...], EmberApsFrame] = {}
        self.room = USUAL_ROOM

    def sent(self, fields: list[Any], version: int) -> bool:
        """Take a messageSentHandler callback of that EZSP version; False when it is about nothing sent from here."""
        newest = version >= ORDER_CHANGED
        status, peer, tag = (fields[0], fields[2], fields[4]) if newest else (fields[4], fields[1], fields[3])
        waiting = self._on_their_way.pop((peer, tag), None)
        if waiting is None:
            return False
        if not waiting.done():
            waiting.set_result(sl_Status.from_ember_status(status))
        return True

    async def broadcast(self, message: ApsMessage) -> None:
        """Send a message to a broadcast address; DeliveryError when the NCP does not take it."""
        status, _ = await self._ezsp().send_broadcast(
            address=message.peer,
            aps_frame=self._header(message),
            radius=message.radius,
            message_tag=self._tag(),
            aps_sequence=0,  # the NCP gives each message its own
            data=message.payload,
        )
        _check(status)

    async def unicast(self, message: ApsMessage) -> None:
        """Send a message to one device; return when the NCP says that it is there, DeliveryError when it is not.

        One that does not fit a frame goes in fragments; LocalProtocolError for more than LONGEST_MESSAGE octets, and
        for one that nobody is to acknowledge.
        """
        octets = len(message.payload)
        async with self._under_way:
            room = self.room - _SECURITY_OCTETS if message.secured else self.room
            if octets <= room:
                status, _ = await self._deliver(message.peer, self._header(message), message.payload)
            elif octets > LONGEST_MESSAGE or not message.acknowledged:
                raise LocalProtocolError(
                    f"a message of {octets} octets; {room} fit a frame, and at most {LONGEST_MESSAGE}, acknowledged, "
                    "go in fragments"
                )
            else:
                status = await self._send_fragments(message, room - _FRAGMENT_OCTETS)
        _check(status)

    async def _send_fragments(self, message: ApsMessage, size: int) -> sl_Status:
        """Send a message in blocks of `size` octets, each when the one before is acknowledged: a window of one."""
        payload = message.payload
        whole = self._header(message)
        blocks = [payload[start : start + size] for start in range(0, len(payload), size)]
        sequence = 0
        status = sl_Status.OK
        for index, block in enumerate(blocks):
            # UG100, EmberApsOption: the group is the block's index, with their number in the high octet of block 0;
            # the sequence number that the NCP gives block 0 goes into all the others.
            header = EmberApsFrame(
                profileId=whole.profileId,
                clusterId=whole.clusterId,
                sourceEndpoint=whole.sourceEndpoint,
                destinationEndpoint=whole.destinationEndpoint,
                options=whole.options | EmberApsOption.APS_OPTION_FRAGMENT,
                groupId=index or len(blocks) << 8,
                sequence=sequence,
            )
            for _ in range(1 + BLOCK_RETRIES):
                status, given = await self._deliver(message.peer, header, block)
                if index == 0:
                    sequence = given
                if status != sl_Status.ZIGBEE_DELIVERY_FAILED:
                    break
            if status != sl_Status.OK:
                break
        return sl_Status(status)

    async def _deliver(self, peer: int, header: EmberApsFrame, payload: bytes) -> tuple[sl_Status, int]:
        """Send one frame; return what became of it, and its APS sequence number."""
        ezsp = self._ezsp()
        tag = self._tag()
        key = (peer, tag)
        delivered: asyncio.Future[sl_Status] = asyncio.get_running_loop().create_future()
        self._on_their_way[key] = delivered
        try:
            status, sequence = await ezsp.send_unicast(
                nwk=peer, aps_frame=header, message_tag=tag, data=payload
            )
            if status == sl_Status.OK:
                overdue = asyncio.get_running_loop().call_later(DELIVERY_TIMEOUT, _expire, delivered)
                try:
                    status = await delivered
                finally:
                    overdue.cancel()
        finally:
            self._on_their_way.pop(key, None)
        return status, sequence

    def _header(self, message: ApsMessage) -> EmberApsFrame:
        """Return the EZSP header of a message. bellows only reads it, so one serves all messages of a kind."""
        kind = (
            message.profile, message.cluster, message.source_endpoint, message.destination_endpoint, message.secured,
            message.acknowledged,
        )  # fmt: skip
        header = self._headers.get(kind)
        if header is None:
            options = EmberApsOption.APS_OPTION_ENABLE_ROUTE_DISCOVERY
            if message.secured:
                options |= EmberApsOption.APS_OPTION_ENCRYPTION
            if message.acknowledged:
                options |= EmberApsOption.APS_OPTION_RETRY  # what asks for an APS acknowledgement
            header = self._headers[kind] = EmberApsFrame(
                profileId=message.profile,
                clusterId=message.cluster,
                sourceEndpoint=message.source_endpoint,
                destinationEndpoint=message.destination_endpoint,
                options=options,
                groupId=0,
                sequence=0,  # the NCP gives each message its own
            )
        return header


def _check(status: sl_Status) -> None:
    if status != sl_Status.OK:
        raise zigpy.exceptions.DeliveryError(f"{status!r}", status)
