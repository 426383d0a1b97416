"""GBCS messages and images that nobody here made: the DCC's RTDS 4.5.0 and its sample images, and tshark's reading."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from harness.evidence.capture import PcapWriter
from harness.wire.aps import ApsFrame, Fragment, build_aps
from harness.wire.gbcs import GbcsMessage, build_message, parse_message
from harness.wire.gbcs_image import image_hash, parse_upgrade_image, verify_image
from harness.wire.gbcs_names import USE_CASES, use_case_name
from harness.wire.gbcs_payloads import (
    ActivateFirmware,
    ActivateImageResponse,
    CommandAccepted,
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    ExecutionOutcome,
    FirmwareTransfer,
    FirmwareVersion,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadFirmwareVersion,
    ReadGsmeFirmwareVersion,
    ReadResponse,
    TransferResponse,
    build_payload,
    parse_payload,
)
from harness.wire.gbcs_readings import invoke_id
from harness.wire.gbcs_security import KeyUse, load_certificate, verify
from harness.wire.image import parse_image
from harness.wire.mac import SHORT, FrameType, MacFrame, build_mac
from harness.wire.nwk import NwkFrame, build_nwk
from harness.wire.security import AuxHeader, KeyId
from harness.wire.tunnel_mailbox import Get, GetResponse, Put, build_gsme_data
from harness.wire.tunnel_messages import TUNNELING_CLUSTER, RequestTunnel, TransferData
from harness.wire.tunnel_messages import build_message as build_tunnel_message

HASH = bytes.fromhex("AA758690730934FF0685AA758690730934FF0685657788990011223344556677")
SUPPLIER, BROKER = 0x90B3D51F30010000, 0x90B3D51F30000002
ESME, GSME, CHF, PPMID = 0x00DB1234567890A0, 0x00DB1234567890A1, 0x00DB1234567890A2, 0x00DB1234567890A4
AT_2015 = bytes.fromhex("07DF0101FF000000008000FF")


def point(text: str) -> ec.EllipticCurvePublicKey:
    """The public key of a point in hex."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(text))


# Public keys of the DCC's test PKI, as SmartDCCInnovation/gbcs-parser (test/rtds/keystore) publishes them.
SIGNERS = {
    ESME: point("02F41284362A5A81EEFF848AE2DB4C6D0DF336F06128EB32121596FAEF86DB383D"),
    CHF: point("03481A857BAE1A50F2C31A6C77E535F35518E855731E71ECBB14B27265228FA1A9"),
}

# Every sample: originator, recipient, originator counter, what it says, whether it is signed and MAC'd.
SAMPLES: dict[str, tuple[int, int, int, object, bool, bool]] = {
    "CS06_11.3_IMMEDIATE_SUCCESS_COMMAND": (SUPPLIER, ESME, 1000, ActivateFirmware(HASH, 1000), True, True),
    "CS06_11.3_IMMEDIATE_SUCCESS_RESPONSE": (
        ESME, SUPPLIER, 1000, ExecutionOutcome(ActivateImageResponse.SUCCESS, 0x0123ABCE), True, False,
    ),
    "CS06_11.3_FUTURE_DATED_SUCCESS_COMMAND": (
        SUPPLIER, ESME, 1001, ActivateFirmware(HASH, 1001, datetime(2030, 1, 15, 9, 0, tzinfo=UTC)), True, True,
    ),
    "CS06_11.3_FUTURE_DATED_SUCCESS_RESPONSE": (ESME, SUPPLIER, 1001, CommandAccepted(), True, False),
    "CCS08_NA_NA_ALERT": (
        CHF, BROKER, 4000,
        FirmwareTransfer(0x8F8A, datetime(2015, 1, 1, tzinfo=UTC), PPMID, 0x0123ABCD, TransferResponse.SUCCESS),
        True, False,
    ),
    "CS08_11.2_SUCCESS_COMMAND": (BROKER, PPMID, 1300, ReadFirmwareVersion(), False, True),
    "CS08_11.2_SUCCESS_RESPONSE": (
        PPMID, BROKER, 1300, FirmwareVersion(0x0123ABCD, ReadResponse.SUCCESS), False, True,
    ),
    "ECS52_11.2_SUCCESS_COMMAND": (SUPPLIER, ESME, 1000, ReadEsmeFirmwareVersion(invoke_id(1000)), False, True),
    "ECS52_11.2_SUCCESS_RESPONSE": (
        ESME, SUPPLIER, 1000, EsmeFirmwareVersion(invoke_id(1000), 0x0123ABCD), False, True,
    ),
    "GCS38_11.2_SUCCESS_COMMAND": (SUPPLIER, GSME, 1000, ReadGsmeFirmwareVersion(), False, True),
    "GCS38_11.2_SUCCESS_RESPONSE": (GSME, SUPPLIER, 1000, GsmeFirmwareVersion(0x0123ABCD), False, True),
    "FDRA-DLMS_NA_8F72_ALERT": (
        ESME, SUPPLIER, 2000, EsmeFirmwareReceipt(invoke_id(2000), 0x8F72, AT_2015, b"\x01" * 32), True, False,
    ),
}  # fmt: skip


def octets_of(shared_data: Path, name: str) -> bytes:
    """The octets of a sample."""
    return bytes.fromhex((shared_data / "rtds-4.5.0" / f"{name}.hex").read_text())


def sample(shared_data: Path, name: str) -> GbcsMessage:
    """A sample, parsed."""
    return parse_message(octets_of(shared_data, name))


def test_no_sample_is_left_out(shared_data):
    """The table below has every message of the folder."""
    assert {path.stem for path in (shared_data / "rtds-4.5.0").glob("*.hex")} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_parses_to_its_fields_and_builds_back(name, shared_data):
    """Header, payload, signature and MAC of each RTDS message, and the same octets from those fields."""
    octets = octets_of(shared_data, name)
    message = parse_message(octets)
    originator, recipient, counter, payload, signed, macced = SAMPLES[name]
    assert (message.originator, message.recipient, message.originator_counter) == (
        originator,
        recipient,
        counter,
    )
    assert message.cra.name == name.rpartition("_")[2]
    assert parse_payload(message) == payload
    assert (len(message.signature) == 64, message.mac is not None) == (signed, macced)
    assert USE_CASES.get(message.message_code, "FDRA-DLMS") == name.partition("_")[0]
    assert build_message(replace(message, content=build_payload(parse_payload(message)))) == octets


def test_a_device_request_names_whom_it_is_for(shared_data):
    """CS08 goes out under the Access Control Broker's id; the supplier and its counter are supplementary."""
    message = sample(shared_data, "CS08_11.2_SUCCESS_COMMAND")
    assert message.supplementary_remote_party == SUPPLIER
    assert message.supplementary_remote_party_counter == 1000
    assert message.supplementary_originator_counter is None


@pytest.mark.parametrize("name", [name for name, row in SAMPLES.items() if row[4]])
def test_the_signature_of_a_sample_is_its_originators(name, shared_data):
    """Every signature of RTDS verifies with the originator's published certificate, and with no other's."""
    supplier = load_certificate(
        (shared_data / "dcc-samples" / "z1-supplier-ds.pem").read_bytes(), KeyUse.SIGNING
    )
    signers: dict[int, Any] = {**SIGNERS, SUPPLIER: supplier}
    message = sample(shared_data, name)
    assert [who for who, signer in signers.items() if verify(message, signer)] == [message.originator]
    assert not verify(
        replace(message, originator_counter=message.originator_counter + 1), signers[message.originator]
    )


# --- images ----------------------------------------------------------------------------------------------------------


def test_the_dccs_image_is_signed_by_the_supplier_beside_it(shared_data):
    """The sample of SR11.1: its signature verifies over the Manufacturer Image, whose hash is the published one."""
    folder = shared_data / "dcc-samples"
    image = parse_upgrade_image(parse_image((folder / "sr11_1-esme.ota").read_bytes()).payload)
    certificate = load_certificate((folder / "z1-supplier-ds.pem").read_bytes(), KeyUse.SIGNING)
    assert len(image.manufacturer_image) == 235
    assert image.force_replace == 0
    assert image.image_hash.hex() == "7542f475e3f12eae887d81e32c46d313741d67076b13caec2f82e00ba5e1bb36"
    assert verify_image(image, certificate)
    # A PPMID's image has neither Force Replace nor signature.
    ppmid = parse_image((folder / "sr11_4-ppmid.ota").read_bytes())
    assert image_hash(ppmid.payload) == image.image_hash


def test_one_flipped_bit_anywhere_in_the_image_fails_its_signature(shared_data):
    """All 1,880 bits of the Manufacturer Image, one after the other."""
    folder = shared_data / "dcc-samples"
    image = parse_upgrade_image(parse_image((folder / "sr11_1-esme.ota").read_bytes()).payload)
    certificate = load_certificate((folder / "z1-supplier-ds.pem").read_bytes(), KeyUse.SIGNING)
    passed = []
    for bit in range(8 * len(image.manufacturer_image)):
        octets = bytearray(image.manufacturer_image)
        octets[bit // 8] ^= 1 << bit % 8
        if verify_image(replace(image, manufacturer_image=bytes(octets)), certificate):
            passed.append(bit)
    assert passed == []


# --- tshark ----------------------------------------------------------------------------------------------------------

HUB_EUI64, METER_EUI64 = 0x000D6F000A9069E7, 0x000D6F0001020304
METER_SHORT, PAN = 0x5F60, 0x1A62
NETWORK_KEY, LINK_KEY = bytes(range(0x10, 0x20)), bytes(range(0x30, 0x40))
BLOCK = 50


def tunnelled(frames: list[bytes], zcl_frame: bytes, *, from_hub: bool = True) -> None:
    """Append what carries a ZCL frame of the Tunneling cluster under both keys, in as many fragments as it needs."""
    blocks = [zcl_frame[at : at + BLOCK] for at in range(0, len(zcl_frame), BLOCK)]
    counter = len(frames) & 0xFF
    sender = HUB_EUI64 if from_hub else METER_EUI64
    source, destination = (0, METER_SHORT) if from_hub else (METER_SHORT, 0)
    for number, block in enumerate(blocks):
        count = len(frames) + 1
        fragment = Fragment(number == 0, number or len(blocks), None) if len(blocks) > 1 else None
        aps = ApsFrame(
            0, dst_endpoint=1, cluster=TUNNELING_CLUSTER, profile=0x0109, src_endpoint=1, counter=counter,
            payload=block, ack_request=True, fragment=fragment, aux=AuxHeader(KeyId.LINK, count),
        )  # fmt: skip
        nwk = NwkFrame(
            kind=0, dst=destination, src=source, radius=30, sequence=count & 0xFF,
            payload=build_aps(aps, LINK_KEY, sender), aux=AuxHeader(KeyId.NETWORK, count, sender, 0),
        )  # fmt: skip
        mac_frame = MacFrame(
            kind=FrameType.DATA, sequence=count & 0xFF, payload=build_nwk(nwk, NETWORK_KEY), dst_mode=SHORT,
            dst_pan=PAN, dst=destination, src_mode=SHORT, src_pan=PAN, src=source,
        )  # fmt: skip
        frames.append(build_mac(mac_frame))


def write(frames: list[bytes], path: Path) -> Path:
    """Write the frames as a capture."""
    with PcapWriter(path) as writer:
        for index, psdu in enumerate(frames):
            writer.frame(index * 10_000, psdu, 15, 0, -40.0, 255)
    return path


# tshark 4.0 knows GBCS up to 2.1: CS08, CCS08 and CS09 came later.
NAMED = [name for name in SAMPLES if not name.startswith(("CS08", "CCS08"))]


@pytest.mark.parametrize("header", ["PUT", "GET-RESPONSE", "none"])
def test_tshark_names_the_use_case_of_a_tunnelled_message(
    header: str, shared_data: Path, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """Decrypted, reassembled, and named: through a GSME's tunnel with its headers, and bare through any other."""
    frames: list[bytes] = []
    tunnelled(frames, build_tunnel_message(RequestTunnel(), 1, from_server=False))
    for name in SAMPLES:
        message = octets_of(shared_data, name)
        wrapped = {
            "PUT": build_gsme_data(Put(message)),
            "GET-RESPONSE": build_gsme_data(GetResponse(3, message)),
        }
        data = TransferData(7, wrapped.get(header, message))
        tunnelled(frames, build_tunnel_message(data, 2, from_server=False))
    keys = {"network": NETWORK_KEY, "link": LINK_KEY}
    seen = check_capture(write(frames, tmp_path / "tunnel.pcap"), keys)
    assert seen.fields("zbee_zcl_se.tun.protocol_id", where="zbee_zcl_se.tun.protocol_id") == [("0x06",)]
    rows = seen.fields(
        "gbcs_tunnel.command",
        "gbcs_message.grouping_header.message_code",
        "gbcs_message.grouping_header.originator_counter",
        "gbcs_message.grouping_header.business_target_id",
        "gbcs_message.mac",
        where="gbcs_message",
    )
    octet = {"PUT": "0x03", "GET-RESPONSE": "0x02", "none": ""}[header]
    expected = []
    for name in SAMPLES:
        message = sample(shared_data, name)
        target = message.recipient.to_bytes(8, "big").hex(":")
        tag = "" if message.mac is None else message.mac.hex()
        expected.append(
            (octet, f"0x{message.message_code:04x}", str(message.originator_counter), target, tag)
        )
    assert rows == expected
    # tshark puts the CRA flag and the use case into the Info column.
    said = seen.run("-Y", "gbcs_message", "-T", "fields", "-e", "_ws.col.Info").splitlines()
    for name, info in zip(SAMPLES, said, strict=True):
        if name in NAMED and not name.startswith("FDRA"):
            assert name.partition("_")[0] in info, (name, info)
        assert name.rpartition("_")[2].capitalize() in info, (name, info)
    assert "Firmware Distribution Receipt Alert" in said[-1]


def test_tshark_reads_a_get(tmp_path: Path, check_capture: Callable[..., Any]) -> None:
    """One octet, 0x01, is the GSME's question for a message."""
    frames: list[bytes] = []
    data = TransferData(7, build_gsme_data(Get()))
    tunnelled(frames, build_tunnel_message(data, 1, from_server=False), from_hub=False)
    keys = {"network": NETWORK_KEY, "link": LINK_KEY}
    seen = check_capture(write(frames, tmp_path / "get.pcap"), keys)
    assert seen.fields("gbcs_tunnel.command", where="gbcs_tunnel") == [("0x01",)]


def test_tshark_knows_the_use_cases_by_the_same_codes(tshark: str) -> None:
    """Our table of message codes against tshark's: the same use case wherever both have one."""
    done = subprocess.run([tshark, "-G", "values"], capture_output=True, text=True, check=True, timeout=60)
    theirs = {}
    for line in done.stdout.splitlines():
        row = line.split("\t")
        if row[:2] == ["V", "gbcs_message.grouping_header.message_code"]:
            theirs[int(row[2], 0)] = row[3]
    assert len(theirs) > 200
    ours = {code: USE_CASES[code].lower() for code in USE_CASES if code in theirs}
    assert ours == {code: theirs[code].split()[0].lower() for code in ours}
    assert use_case_name(0x0012) == theirs[0x0012]
