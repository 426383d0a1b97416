"""Puts together the long messages that an NCP hands up in APS fragments, and acknowledges them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from bellows.ezsp import EZSP
from bellows.types import EmberApsFrame, EmberApsOption, EmberIncomingMessageType, deserialize_dict
from zigpy.application import ControllerApplication

from harness.errors import RemoteProtocolError
from harness.wire.application import ApsMessage
from harness.wire.aps import Fragment
from harness.wire.fragments import BlocksToAcknowledge, MessageReassembled, Reassembler

# EZSP 8 and newer: sequence, two octets of frame control, frame identifier; then incomingMessageHandler's type and
# EmberApsFrame, whose options have APS_OPTION_FRAGMENT (0x8000) on a block of a longer message.
_HEADER = 5
_INCOMING_MESSAGE = b"\x45\x00"
_OPTIONS_HIGH = 13
_FRAGMENT = 0x80

ORDER_CHANGED = 14  # the EZSP version that ordered the fields of the messages' callbacks anew
# Seconds without a block after which a message is given up: more than the 4 attempts of 1.6 s at a block.
_TIMEOUT = 10.0

_KINDS = (
    EmberIncomingMessageType.INCOMING_UNICAST,
    EmberIncomingMessageType.INCOMING_MULTICAST,
    EmberIncomingMessageType.INCOMING_BROADCAST,
)


def to_message(fields: list[Any], version: int) -> ApsMessage | None:
    """Return what an incomingMessageHandler callback of that EZSP version brought; None: nothing for a behaviour."""
    kind, aps = fields[0], fields[1]
    peer, payload = (fields[2], fields[9]) if version >= ORDER_CHANGED else (fields[4], fields[7])
    if kind not in _KINDS:
        return None
    return ApsMessage(
        peer=int(peer),
        profile=int(aps.profileId),
        cluster=int(aps.clusterId),
        source_endpoint=int(aps.sourceEndpoint),
        destination_endpoint=int(aps.destinationEndpoint),
        payload=bytes(payload),
        secured=bool(aps.options & EmberApsOption.APS_OPTION_ENCRYPTION),
        broadcast=kind == EmberIncomingMessageType.INCOMING_BROADCAST,
        group=int(aps.groupId) if kind == EmberIncomingMessageType.INCOMING_MULTICAST else None,
    )


class ReassemblingEzsp(EZSP):
    """bellows' EZSP, with fragments kept from its protocol handlers.

    From EZSP 14 on these take other fields for sender and payload (bellows 1.2.1: the acknowledgement goes to 0x00FF,
    the message is lost); before that they give up a message 10 s after its first block.
    """

    def __init__(
        self,
        config: dict[str, Any],
        application: ControllerApplication | None,
        on_message: Callable[[ApsMessage], None],
        run: Callable[[Coroutine[Any, Any, None]], object],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(config, application)
        self._on_message = on_message
        self._run = run
        self._clock = clock
        # Each block is acknowledged: EmberZNet's CONFIG_FRAGMENT_WINDOW_SIZE is 1 unless somebody sets it.
        self._reassembler = Reassembler(timeout=_TIMEOUT)

    def frame_received(self, data: bytes) -> None:
        """Take a frame off the NCP: a block of a message here, all others as bellows does."""
        if (
            len(data) > _OPTIONS_HIGH
            and data[_OPTIONS_HIGH] & _FRAGMENT
            and data[_HEADER - 2 : _HEADER] == _INCOMING_MESSAGE
        ):
            self._block_received(data[_HEADER:])
        else:
            super().frame_received(data)

    def whole_message(self, fields: list[Any]) -> None:
        """Take the fields of an incomingMessageHandler callback that brought a message in one piece."""
        message = to_message(fields, self.ezsp_version)
        if message is not None:
            self._on_message(message)

    def _block_received(self, parameters: bytes) -> None:
        protocol: Any = self._protocol  # bellows leaves it without a type
        _, _, schema = protocol.COMMANDS["incomingMessageHandler"]
        values, _ = deserialize_dict(parameters, schema)  # type: ignore[no-untyped-call]
        fields = list(values.values())
        message = to_message(fields, self.ezsp_version)
        if message is None or fields[0] != EmberIncomingMessageType.INCOMING_UNICAST:
            return
        aps = fields[1]
        # UG100, EmberApsOption: the group is the block's index, with their number in the high octet of block 0.
        index, count = aps.groupId & 0xFF, aps.groupId >> 8
        fragment = Fragment(True, count) if index == 0 else Fragment(False, index)
        key = (message.peer, int(aps.sequence), message.source_endpoint, message.cluster)
        try:
            events = self._reassembler.receive(key, fragment, message.payload, self._clock())
        except RemoteProtocolError:
            return  # it fits no message: without an acknowledgement its sender gives it up
        for event in events:
            if isinstance(event, BlocksToAcknowledge):
                self._run(self._acknowledge(message.peer, aps, event.fragment))
            elif isinstance(event, MessageReassembled):
                self._on_message(message._replace(payload=event.payload))

    async def _acknowledge(self, peer: int, aps: EmberApsFrame, arrived: Fragment) -> None:
        assert arrived.bitfield is not None  # an acknowledgement has one
        await self.sendReply(
            peer,
            EmberApsFrame(
                profileId=aps.profileId,
                clusterId=aps.clusterId,
                sourceEndpoint=aps.destinationEndpoint,
                destinationEndpoint=aps.sourceEndpoint,
                options=aps.options,
                groupId=arrived.bitfield << 8 | arrived.number,
                sequence=aps.sequence,
            ),
            b"",
        )
