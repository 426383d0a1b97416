"""Frames of every kind, as tshark reads them: none undecrypted or malformed, the right values in their fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evidence.capture import PcapWriter
from harness.wire import aps_commands as aps_command
from harness.wire import mac
from harness.wire import nwk_commands as nwk_command
from harness.wire.aps import ApsFrame, Delivery, Fragment, build_aps
from harness.wire.aps_commands import KeyType, build_aps_command
from harness.wire.mac import EXTENDED, SHORT, MacFrame, build_ack, build_mac
from harness.wire.nwk import NwkFrame, build_nwk
from harness.wire.nwk_commands import build_nwk_command
from harness.wire.security import (
    AuxHeader,
    KeyId,
    aps_key,
    link_key_from_install_code,
    verify_key_hash,
)

HUB = 0x000D6F000A9069E7
DISPLAY = 0x000D6F0005060708
METER = 0x000D6F0001020304
PAN = 0x1A62
EPID = 0x0011223344556677
DISPLAY_SHORT = 0x3D4E
METER_SHORT = 0x5F60
NETWORK_KEY = bytes(range(0x10, 0x20))
# ZSE 07-5356-19 5.4.8.1: the published install code of 128 bits.
LINK_KEY = link_key_from_install_code(bytes.fromhex("83FED3407A939723A5C639B26916D505C3B5"))
PARTNER_KEY = bytes(range(0x40, 0x50))

# ZCL: read attributes of the OTA cluster; its Image Block Request; a long string of the Metering cluster.
READ_VERSION = bytes.fromhex("00 05 00 0600 0200")
BLOCK_REQUEST = bytes.fromhex("01 06 03 00 1d12 8400 11223344 00010000 30")
METER_READING = bytes.fromhex("18 07 01 0d03 00 42 78") + b"x" * 120


class Recording:
    """Writes frames in the order sent, with sequence numbers and frame counters that go up."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._counter = 100

    def count(self) -> int:
        self._counter += 1
        return self._counter

    def mac(self, **fields: Any) -> None:
        """Add a MAC frame."""
        self.frames.append(build_mac(MacFrame(sequence=self.count() & 0xFF, **fields)))

    def nwk(
        self, payload: bytes, *, kind: int = 0, hop: int | None = None, secured: bool = True, **fields: Any
    ) -> None:
        """Add a NWK frame from the hub to the display unless `fields` say otherwise, in a MAC frame of one hop."""
        count = self.count()
        fields = {"dst": DISPLAY_SHORT, "src": 0, "radius": 30, "sequence": count & 0xFF, **fields}
        sender = {0: HUB, DISPLAY_SHORT: DISPLAY, METER_SHORT: METER}[fields["src"]]
        aux = AuxHeader(KeyId.NETWORK, count, sender, 0) if secured else None
        octets = build_nwk(NwkFrame(kind=kind, payload=payload, aux=aux, **fields), NETWORK_KEY)
        dst = hop if hop is not None else fields["dst"]
        broadcast = dst >= 0xFFF8
        self.mac(
            kind=mac.FrameType.DATA,
            payload=octets,
            dst_mode=SHORT,
            dst_pan=PAN,
            dst=0xFFFF if broadcast else dst,
            src_mode=SHORT,
            src_pan=PAN,
            src=fields["src"],
            ack_request=not broadcast,
        )
        if not broadcast:
            self.frames.append(build_ack(self._counter & 0xFF))


def association(air: Recording) -> None:
    """Record a scan and an association, and the MAC commands that they do not use."""
    pan = {"src_pan": PAN, "dst_pan": PAN}
    air.mac(kind=3, payload=b"\x07", dst_mode=SHORT, dst_pan=0xFFFF, dst=0xFFFF)
    beacon = mac.Beacon(EPID, coordinator=True, permit_association=True, depth=0, update_id=5)
    air.mac(kind=0, payload=mac.build_beacon_payload(beacon), src_mode=SHORT, src_pan=PAN, src=0)
    air.mac(
        kind=3, payload=mac.build_command(mac.AssociationRequest(0x8E)), dst_mode=SHORT, dst_pan=PAN, dst=0,
        src_mode=EXTENDED, src_pan=0xFFFF, src=DISPLAY, ack_request=True,
    )  # fmt: skip
    air.mac(
        kind=3, payload=mac.build_command(mac.DataRequest()), dst_mode=SHORT, dst=0, src_mode=EXTENDED, src=DISPLAY,
        ack_request=True, **pan,
    )  # fmt: skip
    air.frames.append(build_ack(air.count() & 0xFF, pending=True))
    air.mac(
        kind=3, payload=mac.build_command(mac.AssociationResponse(DISPLAY_SHORT, 0)), dst_mode=EXTENDED, dst=DISPLAY,
        src_mode=EXTENDED, src=HUB, ack_request=True, **pan,
    )  # fmt: skip
    air.mac(
        kind=3, payload=mac.build_command(mac.DataRequest()), dst_mode=SHORT, dst=0, src_mode=SHORT, src=DISPLAY_SHORT,
        ack_request=True, **pan,
    )  # fmt: skip
    for command in (mac.Disassociation(2), mac.PanIdConflict()):
        air.mac(
            kind=3, payload=mac.build_command(command), dst_mode=EXTENDED, dst=HUB, src_mode=EXTENDED, src=METER,
            ack_request=True, **pan,
        )  # fmt: skip
    air.mac(
        kind=3, payload=mac.build_command(mac.OrphanNotification()), dst_mode=SHORT, dst_pan=0xFFFF, dst=0xFFFF,
        src_mode=EXTENDED, src_pan=0xFFFF, src=METER,
    )  # fmt: skip
    air.mac(
        kind=3, payload=mac.build_command(mac.CoordinatorRealignment(PAN, 0, 15, METER_SHORT)), dst_mode=EXTENDED,
        dst_pan=0xFFFF, dst=METER, src_mode=EXTENDED, src_pan=PAN, src=HUB, ack_request=True,
    )  # fmt: skip


def command_frame(
    command: aps_command.ApsCommand, counter: int, aux: AuxHeader | None = None, link_key: bytes = LINK_KEY
) -> bytes:
    """Return an APS command frame, secured with the key that its auxiliary header names."""
    frame = ApsFrame(1, counter=counter, payload=build_aps_command(command), aux=aux)
    return build_aps(frame, aps_key(link_key, aux.key_id) if aux else None)


def key_commands(air: Recording) -> None:
    """Record the authentication of the display and of a meter behind it, and every other key command."""
    network_key = aps_command.TransportKey(KeyType.NETWORK, NETWORK_KEY, DISPLAY, HUB, sequence=0)
    air.nwk(command_frame(network_key, 1, AuxHeader(KeyId.KEY_TRANSPORT, 1, HUB)), secured=False)
    announce = (
        bytes.fromhex("81") + DISPLAY_SHORT.to_bytes(2, "little") + DISPLAY.to_bytes(8, "little") + b"\x8e"
    )
    air.nwk(
        build_aps(ApsFrame(0, Delivery.BROADCAST, cluster=0x0013, counter=2, payload=announce)),
        dst=0xFFFD, src=DISPLAY_SHORT,
    )  # fmt: skip
    to_hub = {"src": DISPLAY_SHORT, "dst": 0}
    from_display = AuxHeader(KeyId.LINK, 7, DISPLAY)
    air.nwk(command_frame(aps_command.UpdateDevice(METER, METER_SHORT, 1), 3, from_display), **to_hub)
    inner = command_frame(
        aps_command.TransportKey(KeyType.NETWORK, NETWORK_KEY, METER, HUB),
        4,
        AuxHeader(KeyId.KEY_TRANSPORT, 2, HUB),
    )
    air.nwk(command_frame(aps_command.Tunnel(METER, inner), 5))
    air.nwk(inner, src=DISPLAY_SHORT, dst=METER_SHORT, secured=False)
    air.nwk(command_frame(aps_command.RequestKey(4), 6, from_display._replace(frame_counter=8)), **to_hub)
    for counter, key in (
        (7, aps_command.TransportKey(KeyType.TC_LINK, LINK_KEY, DISPLAY, HUB)),
        (8, aps_command.TransportKey(KeyType.APP_LINK, PARTNER_KEY, partner=METER, initiator=True)),
    ):
        air.nwk(command_frame(key, counter, AuxHeader(KeyId.KEY_LOAD, counter, HUB)))
    verify = aps_command.VerifyKey(KeyType.TC_LINK, DISPLAY, verify_key_hash(LINK_KEY))
    air.nwk(command_frame(verify, 9), **to_hub)
    from_hub = AuxHeader(KeyId.LINK, 9, HUB)
    air.nwk(command_frame(aps_command.ConfirmKey(0, KeyType.TC_LINK, DISPLAY), 10, from_hub))
    air.nwk(
        command_frame(aps_command.RequestKey(2, METER), 11, from_display._replace(frame_counter=9)), **to_hub
    )
    air.nwk(command_frame(aps_command.RemoveDevice(METER), 12, from_hub._replace(frame_counter=10)))
    air.nwk(command_frame(aps_command.SwitchKey(1), 13, from_hub._replace(frame_counter=11)))


def application(air: Recording) -> None:
    """Record data and acknowledgements, plain and under the link key, in one frame and in fragments."""
    to_hub = {"src": DISPLAY_SHORT, "dst": 0}
    ota = {"dst_endpoint": 1, "cluster": 0x0019, "profile": 0x0109, "src_endpoint": 1}
    plain = ApsFrame(0, **ota, counter=20, payload=READ_VERSION, ack_request=True)
    air.nwk(build_aps(plain))
    air.nwk(build_aps(ApsFrame(2, **ota, counter=20)), **to_hub)
    request = ApsFrame(0, **ota, counter=21, payload=BLOCK_REQUEST, ack_request=True)
    # Without the extended nonce a reader needs the sender's EUI-64 from elsewhere, as on a real HAN.
    air.nwk(build_aps(request._replace(aux=AuxHeader(KeyId.LINK, 30)), LINK_KEY, DISPLAY), **to_hub)
    acknowledgement = ApsFrame(2, **ota, counter=21, aux=AuxHeader(KeyId.LINK, 31, HUB))
    air.nwk(build_aps(acknowledgement, LINK_KEY))
    air.nwk(build_aps(ApsFrame(2, counter=12, ack_format=True)), **to_hub)
    grouped = ApsFrame(
        0, Delivery.GROUP, group=0x0102, cluster=0x0019, profile=0x0109, src_endpoint=1, payload=READ_VERSION
    )
    air.nwk(build_aps(grouped._replace(counter=22)), dst=0xFFFF)
    air.nwk(build_aps(grouped._replace(counter=23)), dst=0x0102, hop=0xFFFF, multicast=0x11)
    metering = {"dst_endpoint": 1, "cluster": 0x0702, "profile": 0x0109, "src_endpoint": 2, "counter": 24}
    blocks = [METER_READING[start : start + 50] for start in range(0, len(METER_READING), 50)]
    for number, block in enumerate(blocks):
        fragment = Fragment(number == 0, number or len(blocks))
        frame = ApsFrame(
            0, **metering, payload=block, ack_request=True, fragment=fragment,
            aux=AuxHeader(KeyId.LINK, 40 + number),
        )  # fmt: skip
        air.nwk(build_aps(frame, LINK_KEY, DISPLAY), **to_hub)
        air.nwk(build_aps(ApsFrame(2, **metering, fragment=Fragment(number == 0, number, 0xFF))))


def routing(air: Recording) -> None:
    """Record every NWK command and every optional field of the NWK header."""
    to_routers = {"dst": 0xFFFC, "radius": 1}
    commands = [
        (nwk_command.RouteRequest(1, METER_SHORT, 2, destination_ieee=METER), {"dst": 0xFFFC}),
        (nwk_command.RouteRequest(2, 0xFFFC, 0, many_to_one=1), {"dst": 0xFFFC}),
        (nwk_command.RouteReply(1, 0, METER_SHORT, 3, HUB, METER), {"dst": 0, "src": DISPLAY_SHORT}),
        (
            nwk_command.NetworkStatus(nwk_command.SOURCE_ROUTE_FAILURE, METER_SHORT),
            {"dst": 0, "src": DISPLAY_SHORT},
        ),
        (nwk_command.Leave(request=True, rejoin=True), {}),
        (nwk_command.RouteRecord((DISPLAY_SHORT,)), {"dst": 0, "src": METER_SHORT}),
        (nwk_command.RejoinRequest(0x8E), {"dst": 0, "src": DISPLAY_SHORT}),
        (nwk_command.RejoinResponse(DISPLAY_SHORT, 0), {}),
        (nwk_command.LinkStatus(((0, 1, 2), (METER_SHORT, 3, 4))), {**to_routers, "src": DISPLAY_SHORT}),
        (nwk_command.NetworkReport(EPID, (PAN, 0x1A63)), {"dst": 0, "src": DISPLAY_SHORT}),
        (nwk_command.NetworkUpdate(EPID, 6, 0x1A64), {"dst": 0xFFFF}),
        (
            nwk_command.EndDeviceTimeoutRequest(8),
            {"dst": 0, "src": DISPLAY_SHORT, "end_device_initiator": True},
        ),
        (nwk_command.EndDeviceTimeoutResponse(0, 3), {}),
    ]
    for command, fields in commands:
        sender = {0: HUB, DISPLAY_SHORT: DISPLAY, METER_SHORT: METER}[fields.get("src", 0)]
        air.nwk(build_nwk_command(command), kind=1, src_ieee=sender, **fields)
    data = build_aps(
        ApsFrame(
            0,
            dst_endpoint=1,
            cluster=0x0019,
            profile=0x0109,
            src_endpoint=1,
            counter=25,
            payload=READ_VERSION,
        )
    )
    air.nwk(
        data, dst=METER_SHORT, hop=DISPLAY_SHORT, dst_ieee=METER, src_ieee=HUB, discover_route=1,
        relays=(DISPLAY_SHORT, 0x7788), relay_index=1,
    )  # fmt: skip


def inter_pan(air: Recording) -> None:
    """Record an inter-PAN frame: how a hand-held terminal speaks before it joins."""
    stub = ApsFrame(3, cluster=0x0019, profile=0x0109, payload=READ_VERSION)
    air.mac(
        kind=1, payload=build_nwk(NwkFrame(3, 0, 0, 0, 0, build_aps(stub))), dst_mode=EXTENDED, dst_pan=PAN, dst=HUB,
        src_mode=EXTENDED, src_pan=0x1A63, src=METER, ack_request=True,
    )  # fmt: skip


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Return a capture with a frame of every kind that the cores build."""
    air = Recording()
    for scene in (association, key_commands, application, routing, inter_pan):
        scene(air)
    path = tmp_path / "frames.pcap"
    with PcapWriter(path) as writer:
        for index, psdu in enumerate(air.frames):
            writer.frame(index * 10_000, psdu, 15, 0, -40.0, 255)
    return path


def eui64(value: int) -> str:
    """Return an EUI-64 as tshark prints it."""
    return value.to_bytes(8, "big").hex(":")


def test_tshark_reads_every_frame(capture: Path, check_capture: Callable[..., Any]) -> None:
    """With the install-code key alone, which opens the join, tshark decrypts all and finds nothing wrong."""
    assert check_capture(capture, {"install code": LINK_KEY}).count() == 85


def test_tshark_does_not_read_them_with_another_key(capture: Path, dissect: Callable[..., Any]) -> None:
    """The check above can fail: without the right key every secured frame is reported."""
    assert len(dissect(capture, {"wrong": bytes(16)}).unread()) > 30


def test_tshark_reads_the_mac_fields(capture: Path, dissect: Callable[..., Any]) -> None:
    """Beacon, association and the other MAC commands carry what was put into them."""
    names = (
        "wpan.cmd",
        "zbee_beacon.ext_panid",
        "zbee_beacon.update_id",
        "wpan.asoc.addr",
        "wpan.realign.addr",
    )
    rows = dissect(capture).fields(*names, where="wpan.frame_type == 0 || wpan.frame_type == 3")
    assert rows == [
        ("0x07", "", "", "", ""),
        ("", "00:11:22:33:44:55:66:77", "5", "", ""),
        ("0x01", "", "", "", ""),
        ("0x04", "", "", "", ""),
        ("0x02", "", "", "0x3d4e", ""),
        ("0x04", "", "", "", ""),
        ("0x03", "", "", "", ""),
        ("0x05", "", "", "", ""),
        ("0x06", "", "", "", ""),
        ("0x08", "", "", "", "0x0000,0x5f60"),
    ]


def test_tshark_reads_the_key_commands(capture: Path, dissect: Callable[..., Any]) -> None:
    """Key identifiers (network first where there is NWK security), keys, addresses and hash of the APS commands."""
    hub, display, meter = eui64(HUB), eui64(DISPLAY), eui64(METER)
    network_key, link_key, partner_key = NETWORK_KEY.hex(), LINK_KEY.hex(), PARTNER_KEY.hex()
    digest = verify_key_hash(LINK_KEY).hex()
    command = ("key", "dst", "src", "device", "partner", "key_hash")
    rows = dissect(capture, {"install code": LINK_KEY}).fields(
        "zbee_aps.cmd.id",
        "zbee.sec.key_id",
        *(f"zbee_aps.cmd.{name}" for name in command),
        where="zbee_aps.cmd.id",
    )
    assert rows == [
        ("0x05", "0x02", network_key, display, hub, "", "", ""),
        ("0x06", "0x01,0x00", "", "", "", meter, "", ""),
        ("0x0e,0x05", "0x01,0x02", network_key, f"{meter},{meter}", hub, "", "", ""),
        ("0x05", "0x02", network_key, meter, hub, "", "", ""),
        ("0x08", "0x01,0x00", "", "", "", "", "", ""),
        ("0x05", "0x01,0x03", link_key, display, hub, "", "", ""),
        ("0x05", "0x01,0x03", partner_key, "", "", "", meter, ""),
        ("0x0f", "0x01", "", "", display, "", "", digest),
        ("0x10", "0x01,0x00", "", display, "", "", "", ""),
        ("0x08", "0x01,0x00", "", "", "", "", meter, ""),
        ("0x07", "0x01,0x00", "", "", "", meter, "", ""),
        ("0x09", "0x01,0x00", "", "", "", "", "", ""),
    ]


def test_tshark_reads_the_application_and_the_routes(capture: Path, dissect: Callable[..., Any]) -> None:
    """A payload under the link key, three fragments made whole, their acknowledgements, all NWK commands, a route."""
    seen = dissect(capture, {"install code": LINK_KEY})
    rows = seen.fields(
        "zbee_zcl_general.ota.file.version",
        "zbee_aps.fragmentation",
        "zbee_aps.block",
        "zbee_aps.block_acks",
        "zbee_zcl.attr.str",
        "zbee_nwk.relay.index",
        "zbee_nwk.relay",
        "zbee_nwk.cmd.id",
        where="zbee_zcl_general.ota.file.version || zbee_aps.fragmentation || zbee_nwk.relay || zbee_nwk.cmd.id",
    )
    assert rows == [
        ("0x44332211", "", "", "", "", "", "", ""),
        ("", "0x01", "3", "", "", "", "", ""),
        ("", "0x01", "0", "0xff", "", "", "", ""),
        ("", "0x02", "1", "", "", "", "", ""),
        ("", "0x02", "1", "0xff", "", "", "", ""),
        ("", "0x02", "2", "", "x" * 120, "", "", ""),
        ("", "0x02", "2", "0xff", "", "", "", ""),
        *(("", "", "", "", "", "", "", f"0x{command:02x}") for command in (1, *range(1, 13))),
        ("", "", "", "", "", "1", f"{DISPLAY_SHORT},{0x7788}", ""),
    ]
