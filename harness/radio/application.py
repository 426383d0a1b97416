"""zigpy's application as the harness uses it: messages go straight between the NCP and a carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import zigpy.config
import zigpy.exceptions
import zigpy.types
from bellows.ash import AshException
from bellows.config import CONF_EZSP_CONFIG, CONF_USE_THREAD
from bellows.exception import EzspError
from bellows.types import EmberApsFrame, EmberApsOption, sl_Status
from bellows.zigbee.application import ControllerApplication

from harness.errors import LocalProtocolError
from harness.radio.fragments import ORDER_CHANGED, ReassemblingEzsp, to_message
from harness.radio.values import from_eui64, to_descriptor
from harness.wire.application import ApsMessage, SimpleDescriptor

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


class Carrier(Protocol):
    """Who an application works for."""

    @property
    def descriptors(self) -> tuple[SimpleDescriptor, ...]:
        """The endpoints to register."""

    def now(self) -> float:
        """Seconds on the carrier's clock."""

    def message(self, message: ApsMessage) -> None:
        """A message came from the HAN."""

    def left(self, eui64: int) -> None:
        """A device left the HAN."""

    def lost(self, reason: str) -> None:
        """The NCP is gone."""

    def task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; what it raises is the carrier's to report."""


def _expire(delivered: asyncio.Future[sl_Status]) -> None:
    if not delivered.done():
        delivered.set_exception(TimeoutError())


class Application(ControllerApplication):
    """zigpy's application with its own ideas about devices taken out: the behaviour is the only one who speaks."""

    def __init__(self, carrier: Carrier, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._carrier = carrier
        self._under_way = asyncio.Semaphore(MOST_UNICASTS)
        self._room = USUAL_ROOM
        self._on_their_way: dict[tuple[int, int], asyncio.Future[sl_Status]] = {}
        self._headers: dict[tuple[int, ...], EmberApsFrame] = {}

    @property
    def ezsp(self) -> Any:
        """bellows' EZSP object."""
        return self._ezsp

    async def connect(self) -> None:
        """Open the port, with fragments taken out of bellows' hands."""
        ezsp = ReassemblingEzsp(
            self.config[zigpy.config.CONF_DEVICE], self, self._carrier.message, self._run, self._carrier.now
        )
        self._ezsp: Any = ezsp
        try:
            await ezsp.connect(use_thread=self.config[CONF_USE_THREAD])
            await ezsp.write_config(self.config[CONF_EZSP_CONFIG])
            self._created_device_endpoints.clear()
            await self.register_endpoints()
        except BaseException:  # a time-out cancels: whatever it was, the port is not to stay open behind it
            await ezsp.disconnect()  # type: ignore[no-untyped-call]
            self._ezsp = None
            raise

    async def start_network(self) -> None:
        """Resume the network, and learn what fits a frame."""
        await super().start_network()  # type: ignore[no-untyped-call]
        (self._room,) = await self.ezsp.maximumPayloadLength()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._carrier.task(self._try(work))

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except NOT_SENT:
            return  # an NCP that is gone says so itself, by `connection_lost`; else the sender tries again

    async def register_endpoints(self) -> None:
        """Register the behaviour's endpoints; zigpy's own only where it cannot do without (it needs endpoint 1)."""
        descriptors = self._carrier.descriptors
        if all(descriptor.endpoint != 1 for descriptor in descriptors):
            await super().register_endpoints()
        for descriptor in descriptors:
            await self.add_endpoint(to_descriptor(descriptor))

    def ezsp_callback_handler(self, frame_name: str, args: list[Any]) -> None:
        """Take each message before zigpy's devices do: they drop identical ones within 10 s, and answer OTA.

        Here and in `send_unicast` zigpy's packets are left out as well: they are a sixth of the cost of a block.
        """
        version = self.ezsp.ezsp_version
        if frame_name == "incomingMessageHandler":
            message = to_message(args, version)
            if message is not None and message.peer != self.state.node_info.nwk:
                self._carrier.message(message)
                return
        elif frame_name == "messageSentHandler":
            newest = version >= ORDER_CHANGED
            status, peer, tag = (args[0], args[2], args[4]) if newest else (args[4], args[1], args[3])
            waiting = self._on_their_way.pop((peer, tag), None)
            if waiting is not None:
                if not waiting.done():
                    waiting.set_result(sl_Status.from_ember_status(status))
                return
        super().ezsp_callback_handler(frame_name, args)  # type: ignore[no-untyped-call]

    async def send_unicast(self, message: ApsMessage) -> None:
        """Send a message to one device; return when the NCP says that it is there, DeliveryError when it is not.

        One that does not fit a frame goes in fragments; LocalProtocolError for more than LONGEST_MESSAGE octets, and
        for one that nobody is to acknowledge.
        """
        octets = len(message.payload)
        async with self._under_way:
            if not self.is_controller_running:
                raise zigpy.exceptions.ControllerException("the NCP is not running")
            room = self._room - _SECURITY_OCTETS if message.secured else self._room
            if octets <= room:
                status, _ = await self._deliver(message.peer, self._header(message), message.payload)
            elif octets > LONGEST_MESSAGE or not message.acknowledged:
                raise LocalProtocolError(
                    f"a message of {octets} octets; {room} fit a frame, and at most {LONGEST_MESSAGE}, acknowledged, "
                    "go in fragments"
                )
            else:
                status = await self._send_fragments(message, room - _FRAGMENT_OCTETS)
        if status != sl_Status.OK:
            raise zigpy.exceptions.DeliveryError(f"{status!r}", status)

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
        tag = self.get_sequence()
        key = (peer, tag)
        delivered: asyncio.Future[sl_Status] = asyncio.get_running_loop().create_future()
        self._on_their_way[key] = delivered
        try:
            status, sequence = await self.ezsp.send_unicast(
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

    def handle_join(
        self, nwk: int, ieee: zigpy.types.EUI64, parent_nwk: int, *, handle_rejoin: bool = True
    ) -> None:
        """Leave it: the device has joined when it announces itself, and zigpy is not to interview it."""

    async def cleanup_tc_link_key(self, ieee: zigpy.types.EUI64) -> None:
        """Leave it: at any association it would erase the key agreed with that device; `permit` sees to that."""

    def handle_leave(self, nwk: int, ieee: zigpy.types.EUI64) -> None:
        """Tell the carrier."""
        self._carrier.left(from_eui64(ieee))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the carrier."""
        self._carrier.lost(repr(exc))
