"""What goes up and down between the WAN and the HAN beside images: commands, answers, and a hub's own."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.members.hub import DeliveryRefused, WanMessage
from harness.members.image_store_values import ImageStored
from harness.members.kinds import DeviceKind
from harness.wire.application import ZDO_PROFILE, ApsMessage
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_payloads import ReadFirmwareVersion, message_of, parse_payload
from harness.wire.gbcs_readings import EsmeFirmwareVersion, ReadEsmeFirmwareVersion, invoke_id
from harness.wire.ota_messages import UPGRADE_WAIT, QueryNextImageResponse
from harness.wire.tunnel import MessageLost
from harness.wire.tunnel_messages import (
    TUNNELING_CLUSTER,
    RequestTunnel,
    RequestTunnelResponse,
    TransferData,
)
from harness.wire.tunnel_messages import build_message as build_tunnel
from harness.wire.tunnel_messages import (
    parse_message as parse_tunnel,
)
from tests.unit.hub_bench import (
    BRIDGE,
    DEVICES,
    DSP,
    ESME,
    GSME,
    HCALCS,
    HUB,
    IHD,
    PPMID,
    SHORTS,
    HubBench,
)
from tests.unit.secured_han import HUB as HAN_HUB
from tests.unit.secured_han import PPMID as HAN_PPMID
from tests.unit.secured_han import SecuredHan, hub_config

COMMAND = build_message(
    message_of(ReadFirmwareVersion(), originator=DSP, recipient=DEVICES[PPMID], originator_counter=7)
)


def read_version(recipient=HUB, counter=1000):
    """ECS52, the command."""
    payload = ReadEsmeFirmwareVersion(invoke_id(counter))
    return build_message(message_of(payload, originator=DSP, recipient=recipient, originator_counter=counter))


# --- the hub itself ---------------------------------------------------------------------------------------------------


def test_the_hub_answers_for_its_own_firmware_version():
    """ECS52 to its own EUI-64; the response has the command's originator counter (GBCS 7.2.7)."""
    bench = HubBench(firmware_version=0x01040605)
    (up,) = bench.hub.deliver_command(HUB, read_version(), 0.0)
    answer = parse_message(up.octets)
    assert (up.source, answer.originator, answer.recipient, answer.originator_counter) == (
        HUB,
        HUB,
        DSP,
        1000,
    )
    assert parse_payload(answer) == EsmeFirmwareVersion(invoke_id(1000), 0x01040605)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "GBCS message without any octet"),
        (b"\x01", "not a GBCS message"),
        (read_version(DEVICES[ESME]), "is for 0x000d6f000a9069e0"),
        (COMMAND.replace(DEVICES[PPMID].to_bytes(8, "big"), HUB.to_bytes(8, "big")), "CS08"),
    ],
)
def test_what_the_hub_cannot_act_on_is_refused_with_a_sentence(octets, reason):
    """Nothing goes up for it."""
    bench = HubBench(PPMID)
    (refused,) = bench.hub.deliver_command(HUB, octets, 0.0)
    assert reason in refused.reason
    assert isinstance(refused, DeliveryRefused)


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ESME, HCALCS, PPMID, BRIDGE])
def test_a_command_goes_through_the_devices_tunnel_and_answers_come_up(kind):
    """JN-04: the hub asks for protocol 6 of manufacturer 0xFFFF with 1500 octets; what the device says goes up."""
    bench = HubBench(kind, secured=True)
    (asked,) = bench.asked
    open_tunnel(bench, kind, asked.payload[0])
    assert bench.hub.deliver_command(DEVICES[kind], COMMAND, bench.now) == []
    ((_, _, frame),) = bench.sent()
    assert parse_tunnel(frame) == TransferData(3, COMMAND)
    up = build_tunnel(TransferData(3, b"answer"), 9, from_server=True)
    bench.hear(kind, up, cluster=TUNNELING_CLUSTER)
    assert bench.events == [WanMessage(DEVICES[kind], b"answer")]


def open_tunnel(bench, kind, sequence, endpoint=5):
    """Let a device have its Tunneling server on an endpoint, and grant tunnel 3."""
    short = SHORTS[DEVICES[kind]]
    match = bytes((sequence, 0)) + short.to_bytes(2, "little") + bytes((1, endpoint))
    bench.hub.receive(zdo(short, 0x8006, match), bench.now)
    ((_, cluster, request),) = bench.sent()
    assert (cluster, parse_tunnel(request)) == (TUNNELING_CLUSTER, RequestTunnel(6, 0xFFFF, False, 1500))
    granted = build_tunnel(RequestTunnelResponse(3, 0, 1500), request.sequence, from_server=True)
    bench.hear(kind, granted, cluster=TUNNELING_CLUSTER)


def zdo(short, cluster, payload):
    """A ZDO message from a device."""
    return ApsMessage(short, ZDO_PROFILE, cluster, 0, 0, payload)


@pytest.mark.parametrize("kind", [GSME, IHD])
def test_who_opens_its_own_tunnel_or_has_none_is_asked_for_none(kind):
    """GBCS 10.2.2.1: a GSME opens its own; a Type 2 device gets no messages."""
    assert HubBench(kind, secured=True).asked == []


@pytest.mark.parametrize(
    ("kinds", "kind", "octets", "reason"),
    [
        ((), PPMID, COMMAND, "is not in the Device Log"),
        ((IHD,), IHD, COMMAND, "is an IHD"),
        ((PPMID,), PPMID, b"", "message of 0 octets"),
        ((PPMID,), PPMID, bytes(1501), "message of 1501 octets"),
        ((GSME,), GSME, bytes(1499), "message of 1499 octets for a GSME"),
        ((GSME,), GSME, b"", "an empty message"),
    ],
)
def test_a_command_that_cannot_be_carried_is_refused(kinds, kind, octets, reason):
    """The WAN is somebody else: it hears a sentence, and gets no exception."""
    bench = HubBench(*kinds, secured=True)
    (refused,) = bench.hub.deliver_command(DEVICES[kind], octets, bench.now)
    assert (refused.recipient, reason in refused.reason) == (DEVICES[kind], True)


def test_a_hub_without_credentials_carries_no_commands():
    """There is no tunnel without a link key."""
    bench = HubBench(PPMID)
    (refused,) = bench.hub.deliver_command(DEVICES[PPMID], COMMAND, 0.0)
    assert "no credentials" in refused.reason


def test_too_many_commands_for_a_device_that_is_not_there_are_refused():
    """Sixteen wait for its tunnel."""
    bench = HubBench(PPMID, secured=True)
    for _ in range(16):
        assert bench.hub.deliver_command(DEVICES[PPMID], COMMAND, 0.0) == []
    (refused,) = bench.hub.deliver_command(DEVICES[PPMID], COMMAND, 0.0)
    assert "16 messages wait" in refused.reason


def test_commands_for_a_removed_device_are_lost_by_name():
    """What waited for its tunnel is in the events of the removal."""
    bench = HubBench(PPMID, secured=True)
    bench.hub.deliver_command(DEVICES[PPMID], COMMAND, 0.0)
    assert MessageLost(DEVICES[PPMID], COMMAND) in bench.hub.remove(DEVICES[PPMID], 0.0)


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=400), recipient=st.sampled_from([HUB, DEVICES[PPMID], DEVICES[GSME], 5]))
def test_whatever_the_wan_delivers_raises_nothing(octets, recipient):
    """What is not for this hub is refused; a command is not looked into on its way to a device."""
    for event in OPEN.hub.deliver_command(recipient, octets, 0.0):
        assert isinstance(event, DeliveryRefused)
    for event in OPEN.hub.deliver_image(octets, recipient, 0.0):
        assert not isinstance(event, ImageStored)


OPEN = HubBench(PPMID, GSME, secured=True)


# --- with a PPMID -----------------------------------------------------------------------------------------------------


def test_messages_go_both_ways_through_a_real_ppmids_tunnel():
    """Key establishment, tunnel, command; what the PPMID sends is a message to the WAN."""
    han = SecuredHan(hub=hub_config(eui64=HAN_HUB, wan_party=DSP))
    han.hub.admit(HAN_PPMID, DeviceKind.PPMID, bytes(16), 600, 0.0)
    han.run(60.0)
    assert han.hub.deliver_command(HAN_PPMID, b"down", han.now) == []
    han.run(70.0)
    han.ppmid.send_message(b"up", han.now)
    han.run(80.0)
    assert WanMessage(HAN_PPMID, b"up") in han.of(HAN_HUB, WanMessage)
    assert han.hub.log.entries[0].tc_key == han.key(HAN_HUB, HAN_PPMID)


# --- what is remembered -----------------------------------------------------------------------------------------------


def recalled(saved, **config):
    """Another hub with what a first one remembered, its octets seen by JSON."""
    bench = HubBench(**config)
    bench.hub.recall(json.loads(json.dumps(saved)))
    return bench


def test_a_recalled_hub_serves_its_devices_at_once():
    """No key establishment, no discovery: the tunnel is asked for where it was, an image goes to a known endpoint."""
    first = HubBench(PPMID, ESME, secured=True)
    open_tunnel(first, ESME, first.asked[0].payload[0], endpoint=6)
    first.query(PPMID)
    first.deliver(ESME)
    first.fetch(ESME)
    first.end(ESME)
    bench = recalled(first.hub.remember(), secured=True)
    assert bench.hub.keyed == (DEVICES[PPMID], DEVICES[ESME])
    assert [device.short for device in bench.hub.devices] == [SHORTS[DEVICES[kind]] for kind in (PPMID, ESME)]
    bench.hub.network_up(0, 0.0)
    sent = bench.hub.messages_to_send()
    tunnels = [each for each in sent if each.cluster == TUNNELING_CLUSTER]
    assert [(each.peer, each.destination_endpoint) for each in tunnels] == [(SHORTS[DEVICES[ESME]], 6)]
    assert bench.end(ESME).upgrade_time == UPGRADE_WAIT
    bench.deliver(PPMID)
    assert [peer for peer, _, _ in bench.sent()] == [SHORTS[DEVICES[PPMID]]]
    assert isinstance(bench.query(PPMID), QueryNextImageResponse)
    bench.fetch(PPMID)
    bench.end(PPMID)
    assert [message.originator_counter for message, _ in bench.told()] == [2]
    assert bench.hub.remember()["log"] == first.hub.remember()["log"] | {
        "entries": [entry | {"join_until": None} for entry in first.hub.remember()["log"]["entries"]]
    }


def test_a_join_period_is_not_taken_over():
    """It was of another clock."""
    first = HubBench()
    first.hub.admit(DEVICES[PPMID], PPMID, bytes(16), 600, 1e6)
    bench = recalled(first.hub.remember())
    assert bench.hub.network_up(0, 0.0) == []
    assert (bench.hub.log.kind_of(DEVICES[PPMID]), bench.hub.next_deadline()) == (PPMID, None)


BROKEN = {
    "nothing": (lambda saved: {}, "does not have devices"),
    "no mapping": (lambda saved: [], "does not have devices"),
    "one thing more": (lambda saved: saved | {"more": 1}, "does not have devices"),
    "no list": (lambda saved: saved | {"devices": 5}, "devices is no list"),
    "no device": (lambda saved: saved | {"devices": [5]}, "devices[0] does not have the fields"),
    "a short address": (
        lambda saved: saved | {"devices": [saved["devices"][0] | {"short": 0xFFF8}]},
        "devices[0].short is 65528",
    ),
    "an address": (
        lambda saved: saved | {"devices": [saved["devices"][0] | {"eui64": "00 0D6F00 0A9069"}]},
        "devices[0].eui64 is",
    ),
    "twice": (lambda saved: saved | {"devices": 2 * saved["devices"]}, "devices[1].eui64 is there twice"),
    "a partner": (lambda saved: saved | {"keyed": [7]}, "keyed[0] is 7"),
    "a partner twice": (lambda saved: saved | {"keyed": 2 * saved["keyed"]}, "keyed[1] is there twice"),
    "a removed one": (lambda saved: saved | {"removed": ["5"]}, "removed[0] is '5'"),
    "a removed one twice": (lambda saved: saved | {"removed": 2 * ["0" * 16]}, "removed[1] is there twice"),
    "a counter": (lambda saved: saved | {"counter": -1}, "counter is -1"),
    "a counter that is none": (lambda saved: saved | {"counter": True}, "counter is True"),
    "no log": (lambda saved: saved | {"log": 5}, "log is no snapshot"),
    "a log": (lambda saved: saved | {"log": {"entries": [{}], "historic": []}}, "entries[0]"),
    "a log without lists": (lambda saved: saved | {"log": {}}, "entries is no list"),
    "a fetched image": (
        lambda saved: saved | {"fetched": [{"eui64": "0" * 16}]},
        "fetched[0] does not have the fields",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_not_recalled(name):
    """The field is named, and the hub is as it was."""
    first = HubBench(PPMID, secured=True)
    breaks, reason = BROKEN[name]
    bench = HubBench(ESME, secured=True)
    before = bench.hub.remember()
    with pytest.raises(LocalProtocolError) as caught:
        bench.hub.recall(breaks(first.hub.remember()))
    assert reason in str(caught.value)
    assert bench.hub.remember() == before
    assert bench.hub.log.kind_of(DEVICES[ESME]) is ESME


def test_keys_are_in_no_repr():
    """Neither the flash nor the requests to the carrier show one."""
    bench = HubBench()
    (permitted,) = [
        event
        for event in bench.hub.admit(DEVICES[PPMID], PPMID, bytes(range(16)), 600, 0.0)
        if hasattr(event, "seconds")
    ]
    assert permitted.key == bytes(range(16))
    shown = repr(permitted) + repr(bench.hub.flash)
    assert "000102030405" not in shown
    assert "x01" not in shown
