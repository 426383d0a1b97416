"""Key establishment as it should go: the published vectors, the messages, both roles, both suites."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.cbke import KeyEstablishment
from harness.wire.cbke_messages import (
    CONFIRM_KEY_DATA,
    EPHEMERAL_DATA,
    INITIATE,
    ConfirmKeyData,
    EphemeralData,
    Initiate,
    Terminate,
    build_message,
    key_establishment_attributes,
    parse_message,
)
from harness.wire.cbke_values import KeyEstablished
from harness.wire.certificates import CURVES, SUITE_1, SUITE_2, certified_key, check_credentials
from harness.wire.curves import Point
from harness.wire.key_agreement import EphemeralKey, confirm, derive_keys, shared_secret
from tests.unit.key_partners import (
    HUB,
    METER,
    PPMID,
    VECTORS,
    Device,
    Wire,
    credentials,
    octets_of,
    published,
)

SUITES = pytest.mark.parametrize("suite", [SUITE_1, SUITE_2])
ROLES = pytest.mark.parametrize("role", ["initiator", "responder"])
SE_KEY_ESTABLISHMENT = [(INITIATE, False), (EPHEMERAL_DATA, False), (CONFIRM_KEY_DATA, False)]
ANSWERS = [(command, True) for command, _ in SE_KEY_ESTABLISHMENT]


def vector(suite, *path):
    """Return the octets of one published value."""
    value = VECTORS[str(suite)]
    for key in path:
        value = value[key]
    return bytes.fromhex(value)


def ephemeral(suite, role):
    """Return the standard's ephemeral key of a role; some of them are above the order."""
    curve = CURVES[suite]
    private_key = int.from_bytes(vector(suite, role, "ephemeral_private_key"), "big") % curve.order
    public_key = curve.public_key(private_key)
    return EphemeralKey(private_key, public_key, curve.compress(public_key))


# --- the vectors ------------------------------------------------------------------------------------------------------


@SUITES
@ROLES
def test_the_published_keys_are_computed(suite, role):
    """ZSE annex C.5 and C.6: public keys from private ones, static from the certificate too, and ephemeral."""
    curve, own = CURVES[suite], published(suite, role)
    key = certified_key(own.certificate, own.ca_public_key)
    assert curve.compress(key) == vector(suite, role, "public_key")
    assert curve.public_key(own.private_key) == key
    check_credentials(own)
    assert ephemeral(suite, role).octets == vector(suite, role, "ephemeral_public_key")


@SUITES
@ROLES
def test_each_side_computes_the_published_secret_and_codes(suite, role):
    """ZSE annex C.5 and C.6: Z from either side's keys, then MacKey, KeyData, MACU and MACV."""
    curve = CURVES[suite]
    other = "responder" if role == "initiator" else "initiator"
    own, partner = published(suite, role), published(suite, other)
    partner_key = certified_key(partner.certificate, own.ca_public_key)
    theirs = curve.decompress(vector(suite, other, "ephemeral_public_key"))
    secret = shared_secret(curve, own.private_key, ephemeral(suite, role), partner_key, theirs)
    assert secret == vector(suite, "secret")
    keys = derive_keys(secret)
    assert keys.mac_key == vector(suite, "mac_key")
    assert keys.link_key == vector(suite, "key_data")
    codes = confirm(
        keys.mac_key,
        published(suite, "initiator").certificate.subject,
        published(suite, "responder").certificate.subject,
        vector(suite, "initiator", "ephemeral_public_key"),
        vector(suite, "responder", "ephemeral_public_key"),
    )
    assert codes == (vector(suite, "macu"), vector(suite, "macv"))


@SUITES
def test_the_cores_say_what_the_standard_says(suite):
    """Two cores with the standard's keys send its ephemeral keys and its MACs, and end with its KeyData."""
    initiator, responder = (
        Device(
            published(suite, role),
            random_octets=octets_of(suite, int(VECTORS[str(suite)][role]["ephemeral_private_key"], 16)),
        )
        for role in ("initiator", "responder")
    )
    wire = Wire(initiator, responder)
    initiator.core.start(responder.eui64, wire.now)
    wire.run()
    payloads = [frame.payload for _, _, frame in wire.log if frame.control & zcl.CLUSTER_COMMAND]
    assert payloads[0].endswith(vector(suite, "initiator", "certificate"))
    assert payloads[1].endswith(vector(suite, "responder", "certificate"))
    assert payloads[2:] == [
        vector(suite, "initiator", "ephemeral_public_key"),
        vector(suite, "responder", "ephemeral_public_key"),
        vector(suite, "macu"),
        vector(suite, "macv"),
    ]
    assert initiator.key() == responder.key() == vector(suite, "key_data")


def test_a_secret_at_infinity_is_none():
    """A partner whose ephemeral key cancels its static one leaves no secret; the caller is told so."""
    curve = CURVES[SUITE_1]
    own = ephemeral(SUITE_1, "initiator")
    partner_ephemeral = curve.public_key(77)
    half = 1 << 82
    association = partner_ephemeral.x % half | half
    static = curve.public_key(-77 * pow(association, -1, curve.order) % curve.order)
    assert shared_secret(curve, 5, own, static, partner_ephemeral) is None
    assert isinstance(static, Point)


# --- the messages -----------------------------------------------------------------------------------------------------

MESSAGES = [
    Initiate(SUITE_1, 11, 16, bytes(range(48))),
    Initiate(SUITE_2, 22, 32, bytes(range(74))),
    EphemeralData(bytes(22)),
    EphemeralData(bytes(37)),
    ConfirmKeyData(bytes(16)),
    Terminate(4, 30, SUITE_2),
]


@pytest.mark.parametrize(
    "message", MESSAGES, ids=["init-1", "init-2", "point-1", "point-2", "mac", "terminate"]
)
@pytest.mark.parametrize("from_server", [False, True])
def test_a_message_survives_its_octets(message, from_server):
    """Each command builds and parses back, in its direction; what misses an octet or has one more is refused."""
    frame = zcl.parse_frame(build_message(message, 7, from_server=from_server))
    assert bool(frame.control & zcl.FROM_SERVER) == from_server
    assert frame.sequence == 7
    assert parse_message(frame) == message
    for payload in (frame.payload[:-1], frame.payload + b"\0", b""):
        with pytest.raises(RemoteProtocolError):
            parse_message(frame._replace(payload=payload))


def test_an_initiate_of_suite_2_has_81_octets():
    """One octet less than a frame takes under both securities, so it may go unfragmented."""
    assert len(build_message(MESSAGES[1], 1, from_server=False)) == 81


@given(st.binary(max_size=90), st.integers(0, 255), st.booleans())
def test_any_octets_are_a_message_or_a_remote_protocol_error(payload, command, from_server):
    """Hostile octets give nothing else, and what is accepted builds back to the same."""
    frame = zcl.Frame(zcl.CLUSTER_COMMAND, None, 1, command, payload)
    with contextlib.suppress(RemoteProtocolError):
        message = parse_message(frame)
        assert zcl.parse_frame(build_message(message, 1, from_server=from_server)).payload == payload


def test_a_message_that_does_not_fit_is_our_mistake():
    """A time above an octet, a suite above two."""
    for message in (Initiate(SUITE_2, 256, 1, b""), Initiate(1 << 16, 1, 1, b""), Terminate(256, 1, 1)):
        with pytest.raises(LocalProtocolError, match="does not fit"):
            build_message(message, 1, from_server=False)


def test_the_attribute_tells_the_suites():
    """KeyEstablishmentSuite (0x0000) is an enumeration of 16 bits with a bit for each suite."""
    for suites, mask in (((SUITE_1,), 1), ((SUITE_2,), 2), ((SUITE_1, SUITE_2), 3)):
        attribute = key_establishment_attributes(suites)[0x0000]
        assert (attribute.kind, attribute.read(0.0)) == (0x31, mask)


# --- as it should go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("initiators", "responders", "expected"),
    [
        ((SUITE_1,), (SUITE_1,), SUITE_1),
        ((SUITE_2,), (SUITE_2,), SUITE_2),
        ((SUITE_1, SUITE_2), (SUITE_1, SUITE_2), SUITE_2),
        ((SUITE_1, SUITE_2), (SUITE_1,), SUITE_1),
        ((SUITE_2,), (SUITE_2, SUITE_1), SUITE_2),
    ],
)
def test_two_devices_establish_a_key_on_the_best_suite_that_both_have(initiators, responders, expected):
    """The initiator asks for the partner's suites, and both end with the same key, nothing left to wait for."""
    ppmid = Device(*(credentials(PPMID, suite) for suite in initiators))
    hub = Device(*(credentials(HUB, suite) for suite in responders))
    wire = Wire(hub, ppmid)
    ppmid.core.start(HUB, wire.now)
    assert ppmid.core.partner == HUB
    wire.run()
    (mine,), (theirs,) = ppmid.events, hub.events
    assert mine == KeyEstablished(HUB, mine.key, expected, True)
    assert theirs == KeyEstablished(PPMID, mine.key, expected, False)
    assert len(mine.key) == 16
    assert wire.sent(PPMID) == SE_KEY_ESTABLISHMENT
    assert wire.sent(HUB) == ANSWERS
    for device in (hub, ppmid):
        assert device.core.partner is None
        assert device.core.next_deadline() is None


def test_the_key_is_not_shown():
    """An event that is printed does not tell the key, nor do the credentials their private key."""
    event = KeyEstablished(HUB, bytes.fromhex("00112233445566778899AABBCCDDEEFF"), SUITE_2, True)
    assert "key=" not in repr(event)
    assert str(credentials(HUB).private_key) not in repr(credentials(HUB))


def test_a_suite_taken_for_granted_is_not_asked_for():
    """As by Inter-PAN: the first frame is the Initiate Request."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    ppmid.core.start(HUB, wire.now, suite=SUITE_2)
    wire.run()
    assert wire.log[0][2].control & zcl.CLUSTER_COMMAND
    assert ppmid.key() == hub.key()


def test_the_times_are_those_of_the_suite_and_the_slack():
    """22 and 32 s are stated on suite 2; a side waits for what its partner states and 10 s more."""
    ppmid, hub = (
        Device(credentials(PPMID)),
        Device(credentials(HUB), ephemeral_time={SUITE_2: 5}, confirm_time={SUITE_2: 7}),
    )
    wire = Wire(hub, ppmid)
    ppmid.core.start(HUB, wire.now)
    waits = []
    for _ in range(7):
        wire.carry_one_round()
        waits.append([device.core.next_deadline() for device in (ppmid, hub)])
    base = wire.now + 10.0
    assert waits == [
        [base, None],  # the suites are known, the Initiate Request is not answered
        [base, base + 22],  # the hub waits for the PPMID's ephemeral key, as the PPMID asked
        [base + 5, base + 22],  # the PPMID for the hub's
        [base + 5, base + 32],
        [base + 7, base + 32],
        [base + 7, None],
        [None, None],
    ]
    initiate = parse_message(next(f for s, _, f in wire.log if s == PPMID and f.control & 1))
    assert initiate[:3] == (SUITE_2, 22, 32)


def test_a_default_response_goes_where_one_is_asked_for():
    """An initiator that is asked to confirms the last message with a Default Response; a core asks for none."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    wire.alter = lambda source, frame: (
        frame._replace(control=frame.control & ~zcl.NO_DEFAULT_RESPONSE) if source == HUB else frame
    )
    ppmid.core.start(HUB, wire.now)
    wire.run()
    assert ppmid.key() == hub.key()
    _, to, last = wire.log[-1]
    assert (to, last.command, last.payload) == (HUB, zcl.DEFAULT_RESPONSE, bytes((CONFIRM_KEY_DATA, 0)))


def test_each_establishment_makes_another_key():
    """Fresh ephemeral keys each time; and the roles may change."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    for starter, other in ((ppmid, HUB), (ppmid, HUB), (hub, PPMID)):
        starter.core.start(other, wire.now)
        wire.run()
    keys = [event.key for event in ppmid.events]
    assert keys == [event.key for event in hub.events]
    assert len(set(keys)) == 3


def test_the_same_random_octets_make_the_same_key():
    """All randomness comes through the argument: a run repeats itself octet for octet."""
    logs = []
    for _ in range(2):
        ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
        wire = Wire(hub, ppmid)
        ppmid.core.start(HUB, wire.now)
        wire.run()
        logs.append(wire.log)
    assert logs[0] == logs[1]


# --- our own mistakes -------------------------------------------------------------------------------------------------


def test_only_one_key_is_established_at_a_time():
    """A second start is our mistake, and names the partner that is being served; after a reset it is none."""
    ppmid = Device(credentials(PPMID))
    ppmid.core.start(HUB, 1.0)
    with pytest.raises(LocalProtocolError, match="00-0D-6F-00-0A-90-69-E7: one at a time"):
        ppmid.core.start(METER, 2.0)
    ppmid.core.reset()
    assert ppmid.core.frames_to_send() == []
    ppmid.core.start(METER, 3.0)
    assert ppmid.core.partner == METER


def test_impossible_uses_are_our_mistake():
    """A key with oneself, a suite without certificate, no certificates, two of one suite, those of two devices."""
    core = Device(credentials(PPMID)).core
    with pytest.raises(LocalProtocolError, match="with itself"):
        core.start(PPMID, 0.0)
    with pytest.raises(LocalProtocolError, match="no certificate of suite 1"):
        core.start(HUB, 0.0, suite=SUITE_1)
    octets = random.Random(1).randbytes
    for owned, message in (
        ([], "of one device, not of 0"),
        ([credentials(HUB), credentials(PPMID)], "two certificates of suite 2"),
        ([credentials(HUB), credentials(PPMID, SUITE_1)], "of one device, not of 2"),
    ):
        with pytest.raises(LocalProtocolError, match=message):
            KeyEstablishment(owned, octets)
