"""EZSP's busiest frames as plain values, packed and unpacked without bellows' types."""

from __future__ import annotations

import struct
from typing import NamedTuple

from harness.errors import LocalProtocolError

# EZSP frame ids (UG100): the same in every version from 8 up.
SEND_UNICAST = 0x0034
MESSAGE_SENT = 0x003F
INCOMING_MESSAGE = 0x0045
SET_EXTENDED_TIMEOUT = 0x007E
GET_EXTENDED_TIMEOUT = 0x007F

# From EZSP 14 on a status is a 4-octet sl_Status and comes first, and message tags are 16 bits wide.
WIDE_STATUS = 14

# The tables' octet string: one length octet, 0xFF stands for "invalid" and is never sent.
_LONGEST_PAYLOAD = 254

_EUI64 = struct.Struct("<Q")
_EUI64_BOOL = struct.Struct("<QB")


class EzspAps(NamedTuple):
    """The APS header of a message as EZSP carries it (EmberApsFrame)."""

    profile: int
    cluster: int
    source_endpoint: int
    destination_endpoint: int
    options: int
    group: int
    sequence: int


class SendUnicast(NamedTuple):
    """The host asks for a unicast. `kind` 0 direct, 1 by address table, 2 by binding: what `destination` is."""

    kind: int
    destination: int
    aps: EzspAps
    tag: int
    payload: bytes


class GetExtendedTimeout(NamedTuple):
    """The host asks whether a peer is given the long, sleepy-device APS retry interval."""

    eui64: int


class SetExtendedTimeout(NamedTuple):
    """The host says whether a peer is given the long, sleepy-device APS retry interval."""

    eui64: int
    extended: bool


class MessageSent(NamedTuple):
    """The fate of a message the host sent. `status` is an EmberStatus up to EZSP 13, an sl_Status from 14."""

    status: int
    kind: int
    destination: int
    aps: EzspAps
    tag: int
    payload: bytes


class IncomingMessage(NamedTuple):
    """A message for the host; `kind` as EmberIncomingMessageType, `rssi` in dBm, index 0xFF: no entry."""

    kind: int
    aps: EzspAps
    sender: int
    lqi: int
    rssi: int
    payload: bytes
    sender_eui64: int = 0
    timestamp: int = 0
    binding_index: int = 0xFF
    address_index: int = 0xFF


HotCommand = SendUnicast | GetExtendedTimeout | SetExtendedTimeout


class FastCodec:
    """The hot frames of one EZSP version; header and payload of a frame, no bellows type made.

    Builders raise LocalProtocolError on values that do not fit. The layouts are those of bellows' tables.
    """

    __slots__ = ("_incoming", "_reply", "_sent", "_timeout", "_unicast", "_wide")

    def __init__(self, version: int) -> None:
        self._wide = wide = version >= WIDE_STATUS
        aps = "HHBBHHB"
        tag = "H" if wide else "B"
        header = "<BHH"
        self._unicast = struct.Struct(f"<BH{aps}{tag}B")
        self._reply = struct.Struct(f"{header}{'I' if wide else 'B'}B")
        self._timeout = struct.Struct(f"{header}{'I' if wide else 'B'}")
        self._sent = struct.Struct(f"{header}{'I' if wide else ''}BH{aps}{tag}{'' if wide else 'B'}B")
        self._incoming = struct.Struct(f"{header}B{aps}{'HQBBBbIB' if wide else 'BbHBBB'}")

    def parse(self, frame_id: int, parameters: bytes) -> HotCommand | None:
        """The hot command that `parameters` are of; None if it is another, or too short: ask the tables then."""
        if frame_id == SEND_UNICAST:
            layout = self._unicast
            end = layout.size
            if len(parameters) < end:
                return None
            (
                kind,
                destination,
                profile,
                cluster,
                source_endpoint,
                destination_endpoint,
                options,
                group,
                sequence,
                tag,
                length,
            ) = layout.unpack_from(parameters)
            if len(parameters) < end + length:
                return None
            aps = EzspAps(profile, cluster, source_endpoint, destination_endpoint, options, group, sequence)
            return SendUnicast(kind, destination, aps, tag, parameters[end : end + length])
        if frame_id == GET_EXTENDED_TIMEOUT and len(parameters) >= _EUI64.size:
            return GetExtendedTimeout(_EUI64.unpack_from(parameters)[0])
        if frame_id == SET_EXTENDED_TIMEOUT and len(parameters) >= _EUI64_BOOL.size:
            eui64, extended = _EUI64_BOOL.unpack_from(parameters)
            return SetExtendedTimeout(eui64, extended != 0)
        return None

    def unicast_reply(self, sequence: int, status: int, aps_sequence: int) -> bytes:
        """The response to sendUnicast: how it was accepted and the APS counter it got."""
        return self._pack(self._reply, sequence, 0x0180, SEND_UNICAST, status, aps_sequence)

    def get_timeout_reply(self, sequence: int, extended: bool) -> bytes:
        """The response to getExtendedTimeout: a Bool up to EZSP 13, sl_Status OK or FAIL from 14."""
        value = (0 if extended else 1) if self._wide else int(extended)
        return self._pack(self._timeout, sequence, 0x0180, GET_EXTENDED_TIMEOUT, value)

    def set_timeout_reply(self, sequence: int) -> bytes:
        """The response to setExtendedTimeout: empty up to EZSP 13, sl_Status OK from 14."""
        frame = self._pack(self._timeout, sequence, 0x0180, SET_EXTENDED_TIMEOUT, 0)
        return frame if self._wide else frame[:-1]

    def message_sent(self, sequence: int, sent: MessageSent) -> bytes:
        """The messageSentHandler callback; `sequence` is that of the last answered command."""
        payload = sent.payload
        size = len(payload)
        self._check(size)
        head = (sequence, 0x0190, MESSAGE_SENT)
        if self._wide:
            return (
                self._pack(
                    self._sent, *head, sent.status, sent.kind, sent.destination, *sent.aps, sent.tag, size
                )
                + payload
            )
        return (
            self._pack(self._sent, *head, sent.kind, sent.destination, *sent.aps, sent.tag, sent.status, size)
            + payload
        )

    def incoming_message(self, sequence: int, message: IncomingMessage) -> bytes:
        """The incomingMessageHandler callback; `sequence` is that of the last answered command."""
        kind, aps, sender, lqi, rssi, payload, eui64, timestamp, binding, address = message
        size = len(payload)
        self._check(size)
        head = (sequence, 0x0190, INCOMING_MESSAGE, kind)
        if self._wide:
            tail = (sender, eui64, binding, address, lqi, rssi, timestamp, size)
            return self._pack(self._incoming, *head, *aps, *tail) + payload
        return self._pack(self._incoming, *head, *aps, lqi, rssi, sender, binding, address, size) + payload

    @staticmethod
    def _check(size: int) -> None:
        if size > _LONGEST_PAYLOAD:
            raise LocalProtocolError(f"a message of {size} octets does not fit one EZSP frame (254 at most)")

    @staticmethod
    def _pack(layout: struct.Struct, *values: int) -> bytes:
        try:
            return layout.pack(*values)
        except struct.error as error:
            raise LocalProtocolError(f"{values} does not fit an EZSP frame: {error}") from None
