"""The commands of the OTA Upgrade cluster (0x0019) as values, and their octets behind the ZCL header."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl

OTA_CLUSTER: Final = 0x0019

# ZCL8 11.13: command identifiers.
IMAGE_NOTIFY: Final = 0x00
QUERY_NEXT_IMAGE_REQUEST: Final = 0x01
QUERY_NEXT_IMAGE_RESPONSE: Final = 0x02
IMAGE_BLOCK_REQUEST: Final = 0x03
IMAGE_PAGE_REQUEST: Final = 0x04
IMAGE_BLOCK_RESPONSE: Final = 0x05
UPGRADE_END_REQUEST: Final = 0x06
UPGRADE_END_RESPONSE: Final = 0x07
QUERY_DEVICE_SPECIFIC_FILE_REQUEST: Final = 0x08
QUERY_DEVICE_SPECIFIC_FILE_RESPONSE: Final = 0x09

# ZCL8 11.13.4: the wildcards that notifications and Upgrade End Responses may carry.
ANY_MANUFACTURER: Final = 0xFFFF
ANY_IMAGE_TYPE: Final = 0xFFFF
ANY_VERSION: Final = 0xFFFFFFFF

UPGRADE_NOW: Final = 0  # ZCL8 11.13.9.5: current time and upgrade time both 0
UPGRADE_WAIT: Final = (
    0xFFFFFFFF  # ZCL8 11.13.9.5: until a later Upgrade End Response; what GBCS 11.2.1 asks for
)

# The statuses as plain ints: the transfer compares and packs them once a block.
SUCCESS: Final = int(zcl.Status.SUCCESS)
ABORT: Final = int(zcl.Status.ABORT)
WAIT_FOR_DATA: Final = int(zcl.Status.WAIT_FOR_DATA)
NO_IMAGE_AVAILABLE: Final = int(zcl.Status.NO_IMAGE_AVAILABLE)

# A deadline goes through the air's whole microseconds and back: what is due within one of them (s) is due.
CLOCK_TOLERANCE: Final = 1e-6


class VersionPolicy(IntEnum):
    """Which versions a party takes for an upgrade of the one that runs."""

    NEWER = 0
    DIFFERENT = 1
    ANY = 2

    def allows(self, running: int, offered: int) -> bool:
        """Whether `offered` may replace `running`."""
        if self is VersionPolicy.NEWER:
            return offered > running
        return self is VersionPolicy.ANY or offered != running


class ImageNotify(NamedTuple):
    """0x00, server to client: an image waits. `payload_type` 0 to 3 says how many of the last three fields follow."""

    payload_type: int
    jitter: int
    manufacturer: int = ANY_MANUFACTURER
    image_type: int = ANY_IMAGE_TYPE
    version: int = ANY_VERSION


class QueryNextImageRequest(NamedTuple):
    """0x01, client to server: is there an image for me? `version` is the one that runs."""

    manufacturer: int
    image_type: int
    version: int
    hardware: int | None = None


class QueryNextImageResponse(NamedTuple):
    """0x02, server to client; behind a `status` other than SUCCESS nothing follows. `size` is the whole file's."""

    status: int
    manufacturer: int = 0
    image_type: int = 0
    version: int = 0
    size: int = 0


class ImageBlockRequest(NamedTuple):
    """0x03, client to server: up to `max_size` octets from `offset`. `block_period` is in milliseconds."""

    manufacturer: int
    image_type: int
    version: int
    offset: int
    max_size: int
    node: int | None = None
    block_period: int | None = None


class ImagePageRequest(NamedTuple):
    """0x04, client to server: `page_size` octets in blocks of `max_size`, `spacing` milliseconds apart."""

    manufacturer: int
    image_type: int
    version: int
    offset: int
    max_size: int
    page_size: int
    spacing: int
    node: int | None = None


class ImageBlock(NamedTuple):
    """0x05 with status SUCCESS, server to client: one piece of the file."""

    manufacturer: int
    image_type: int
    version: int
    offset: int
    data: bytes


class WaitForData(NamedTuple):
    """0x05 with status WAIT_FOR_DATA: ask again after request - current time (s), then every `block_period` (ms)."""

    current_time: int
    request_time: int
    block_period: int


class BlockRefusal(NamedTuple):
    """0x05 with any other status, ABORT above all."""

    status: int


class UpgradeEndRequest(NamedTuple):
    """0x06, client to server: how the transfer ended."""

    status: int
    manufacturer: int
    image_type: int
    version: int


class UpgradeEndResponse(NamedTuple):
    """0x07, server to client: when to upgrade, both times in s; wildcards allowed in the first three."""

    manufacturer: int
    image_type: int
    version: int
    current_time: int
    upgrade_time: int


class QueryDeviceSpecificFileRequest(NamedTuple):
    """0x08, client to server: is there a file for the device `node` alone?"""

    node: int
    manufacturer: int
    image_type: int
    version: int
    stack_version: int


class QueryDeviceSpecificFileResponse(NamedTuple):
    """0x09, server to client; behind a `status` other than SUCCESS nothing follows."""

    status: int
    manufacturer: int = 0
    image_type: int = 0
    version: int = 0
    size: int = 0


Message = (
    ImageNotify
    | QueryNextImageRequest
    | QueryNextImageResponse
    | ImageBlockRequest
    | ImagePageRequest
    | ImageBlock
    | WaitForData
    | BlockRefusal
    | UpgradeEndRequest
    | UpgradeEndResponse
    | QueryDeviceSpecificFileRequest
    | QueryDeviceSpecificFileResponse
)

_NODE_PRESENT = 0x01
_BLOCK_PERIOD_PRESENT = 0x02
_HARDWARE_PRESENT = 0x01

_NOTIFY = tuple(struct.Struct(text) for text in ("<BB", "<BBH", "<BBHH", "<BBHHI"))
_QUERY = struct.Struct("<BHHI")
_FOUND = struct.Struct("<BHHII")
_BLOCK_REQUEST = struct.Struct("<BHHIIB")
_PAGE_REQUEST = struct.Struct("<BHHIIBHH")
_BLOCK = struct.Struct("<BHHIIB")
_WAIT = struct.Struct("<BIIH")
_END = struct.Struct("<BHHI")
_END_RESPONSE = struct.Struct("<HHIII")
_SPECIFIC = struct.Struct("<QHHIH")
_U16 = struct.Struct("<H")
_U64 = struct.Struct("<Q")


def _build_notify(message: ImageNotify) -> bytes:
    kind = message.payload_type
    if not 0 <= kind <= 3:
        raise LocalProtocolError(f"Image Notify payload type {kind} is not 0 to 3")
    return _NOTIFY[kind].pack(*message[: kind + 2])


def _parse_notify(payload: bytes) -> ImageNotify:
    kind = payload[0] if payload else 0
    if kind > 3 or len(payload) != _NOTIFY[kind].size:
        raise RemoteProtocolError(f"Image Notify of payload type {kind} with {len(payload)} octets")
    return ImageNotify(*_NOTIFY[kind].unpack(payload))


def _build_query(message: QueryNextImageRequest) -> bytes:
    manufacturer, image_type, version, hardware = message
    if hardware is None:
        return _QUERY.pack(0, manufacturer, image_type, version)
    return _QUERY.pack(_HARDWARE_PRESENT, manufacturer, image_type, version) + _U16.pack(hardware)


def _parse_query(payload: bytes) -> QueryNextImageRequest:
    control, manufacturer, image_type, version = _QUERY.unpack_from(payload)
    hardware = _U16.unpack_from(payload, _QUERY.size)[0] if control & _HARDWARE_PRESENT else None
    return QueryNextImageRequest(manufacturer, image_type, version, hardware)


def _build_found(message: QueryNextImageResponse | QueryDeviceSpecificFileResponse) -> bytes:
    return bytes((message.status,)) if message.status else _FOUND.pack(*message)


def _parse_found(payload: bytes) -> QueryNextImageResponse:
    status = payload[0]
    return QueryNextImageResponse(status) if status else QueryNextImageResponse(*_FOUND.unpack_from(payload))


def _parse_specific_found(payload: bytes) -> QueryDeviceSpecificFileResponse:
    return QueryDeviceSpecificFileResponse(*_parse_found(payload))


def _build_block_request(message: ImageBlockRequest) -> bytes:
    manufacturer, image_type, version, offset, max_size, node, period = message
    control = (0 if node is None else _NODE_PRESENT) | (0 if period is None else _BLOCK_PERIOD_PRESENT)
    payload = _BLOCK_REQUEST.pack(control, manufacturer, image_type, version, offset, max_size)
    if node is not None:
        payload += _U64.pack(node)
    return payload if period is None else payload + _U16.pack(period)


def _parse_block_request(payload: bytes) -> ImageBlockRequest:
    control, manufacturer, image_type, version, offset, max_size = _BLOCK_REQUEST.unpack_from(payload)
    if not control & (_NODE_PRESENT | _BLOCK_PERIOD_PRESENT):
        return ImageBlockRequest(manufacturer, image_type, version, offset, max_size)
    node = period = None
    end = _BLOCK_REQUEST.size
    if control & _NODE_PRESENT:
        node = _U64.unpack_from(payload, end)[0]
        end += 8
    if control & _BLOCK_PERIOD_PRESENT:
        period = _U16.unpack_from(payload, end)[0]
    return ImageBlockRequest(manufacturer, image_type, version, offset, max_size, node, period)


def _build_page_request(message: ImagePageRequest) -> bytes:
    node = message.node
    if node is None:
        return _PAGE_REQUEST.pack(0, *message[:7])
    return _PAGE_REQUEST.pack(_NODE_PRESENT, *message[:7]) + _U64.pack(node)


def _parse_page_request(payload: bytes) -> ImagePageRequest:
    (control, manufacturer, image_type, version, offset, max_size, page_size, spacing) = (
        _PAGE_REQUEST.unpack_from(payload)
    )
    node = _U64.unpack_from(payload, _PAGE_REQUEST.size)[0] if control & _NODE_PRESENT else None
    return ImagePageRequest(manufacturer, image_type, version, offset, max_size, page_size, spacing, node)


def _build_block(message: ImageBlock) -> bytes:
    manufacturer, image_type, version, offset, data = message
    return _BLOCK.pack(SUCCESS, manufacturer, image_type, version, offset, len(data)) + data


def _parse_block_response(payload: bytes) -> ImageBlock | WaitForData | BlockRefusal:
    status = payload[0]
    if status == SUCCESS:
        _, manufacturer, image_type, version, offset, size = _BLOCK.unpack_from(payload)
        data = payload[_BLOCK.size : _BLOCK.size + size]
        if len(data) < size:
            raise RemoteProtocolError(
                f"Image Block Response states {size} octets of data and has {len(data)}"
            )
        return ImageBlock(manufacturer, image_type, version, offset, data)
    if status == WAIT_FOR_DATA:
        return WaitForData(*_WAIT.unpack_from(payload)[1:])
    return BlockRefusal(status)


# One row a message: its command, whether it comes from the server, how it is built.
_BUILDERS: Final[Mapping[type, tuple[int, bool, Callable[[Any], bytes]]]] = {
    ImageNotify: (IMAGE_NOTIFY, True, _build_notify),
    QueryNextImageRequest: (QUERY_NEXT_IMAGE_REQUEST, False, _build_query),
    QueryNextImageResponse: (QUERY_NEXT_IMAGE_RESPONSE, True, _build_found),
    ImageBlockRequest: (IMAGE_BLOCK_REQUEST, False, _build_block_request),
    ImagePageRequest: (IMAGE_PAGE_REQUEST, False, _build_page_request),
    ImageBlock: (IMAGE_BLOCK_RESPONSE, True, _build_block),
    WaitForData: (IMAGE_BLOCK_RESPONSE, True, lambda message: _WAIT.pack(WAIT_FOR_DATA, *message)),
    BlockRefusal: (IMAGE_BLOCK_RESPONSE, True, bytes),
    UpgradeEndRequest: (UPGRADE_END_REQUEST, False, lambda message: _END.pack(*message)),
    UpgradeEndResponse: (UPGRADE_END_RESPONSE, True, lambda message: _END_RESPONSE.pack(*message)),
    QueryDeviceSpecificFileRequest: (
        QUERY_DEVICE_SPECIFIC_FILE_REQUEST,
        False,
        lambda message: _SPECIFIC.pack(*message),
    ),
    QueryDeviceSpecificFileResponse: (QUERY_DEVICE_SPECIFIC_FILE_RESPONSE, True, _build_found),
}

# One row a command: whether it comes from the server, how it is read.
_PARSERS: Final[Mapping[int, tuple[bool, Callable[[bytes], Message]]]] = {
    IMAGE_NOTIFY: (True, _parse_notify),
    QUERY_NEXT_IMAGE_REQUEST: (False, _parse_query),
    QUERY_NEXT_IMAGE_RESPONSE: (True, _parse_found),
    IMAGE_BLOCK_REQUEST: (False, _parse_block_request),
    IMAGE_PAGE_REQUEST: (False, _parse_page_request),
    IMAGE_BLOCK_RESPONSE: (True, _parse_block_response),
    UPGRADE_END_REQUEST: (False, lambda payload: UpgradeEndRequest(*_END.unpack_from(payload))),
    UPGRADE_END_RESPONSE: (True, lambda payload: UpgradeEndResponse(*_END_RESPONSE.unpack_from(payload))),
    QUERY_DEVICE_SPECIFIC_FILE_REQUEST: (
        False,
        lambda payload: QueryDeviceSpecificFileRequest(*_SPECIFIC.unpack_from(payload)),
    ),
    QUERY_DEVICE_SPECIFIC_FILE_RESPONSE: (True, _parse_specific_found),
}


def build_message(message: Message, sequence: int, *, default_response: bool = False) -> bytes:
    """The whole ZCL frame of a message. LocalProtocolError when a field does not fit its place.

    `default_response` False sets the bit that asks for no Default Response in case of success.
    """
    command, from_server, build = _BUILDERS[type(message)]
    control = zcl.CLUSTER_COMMAND | (zcl.FROM_SERVER if from_server else 0)
    if not default_response:
        control |= zcl.NO_DEFAULT_RESPONSE
    try:
        return bytes((control, sequence, command)) + build(message)
    except (struct.error, ValueError) as error:
        raise LocalProtocolError(f"{message} does not fit its command: {error}") from error


def parse_message(frame: zcl.Frame) -> Message | None:
    """The message in a frame of this cluster; None when the frame is none of its commands or of the other direction.

    RemoteProtocolError when it is cut off. Octets behind the last known field are passed over, as ZCL8 2.4.1.3 lets
    later revisions add fields, but for Image Notify, whose length is its only check.
    """
    control = frame.control
    row = _PARSERS.get(frame.command)
    if row is None or not control & zcl.CLUSTER_COMMAND or frame.manufacturer is not None:
        return None
    if row[0] is not bool(control & zcl.FROM_SERVER):
        return None
    try:
        return row[1](frame.payload)
    except (struct.error, IndexError) as error:
        raise RemoteProtocolError(
            f"OTA command {frame.command:#04x} with {len(frame.payload)} octets of payload is cut off"
        ) from error
