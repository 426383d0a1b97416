"""What a node answers to ZDO requests, read by zigpy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zigpy import types
from zigpy.zdo import types as zdo_types
from zigpy.zdo.types import Status, ZDOCmd

from harness.emulation.node import NodeKind
from harness.wire.application import ApsMessage
from tests.unit.premises import BRIDGE, CLUSTER, HUB, METER, NETWORK, OTHER, PPMID, Premises


def eui64(number):
    """An EUI-64 as zigpy has it."""
    return types.EUI64.deserialize(number.to_bytes(8, "little"))[0]


def ask(premises, asker, peer, command, *values, wait=3.0):
    """Send a ZDO request and return the answers, as dicts by zigpy's field names."""
    _, schema = zdo_types.CLUSTERS[command]
    request = bytes([0x42]) + b"".join(
        kind(value).serialize() for value, kind in zip(values, schema, strict=True)
    )
    told = premises.told[asker.eui64]
    told.seen.clear()
    asker.send(ApsMessage(peer, 0, int(command), 0, 0, request, broadcast=peer >= 0xFFF8))
    premises.run(wait)
    answers = []
    for cluster, payload in told.of("zdo"):
        if cluster != int(command) | 0x8000:
            continue
        assert payload[0] == 0x42
        names, kinds = zdo_types.CLUSTERS[ZDOCmd(cluster)]
        read, rest = types.deserialize(payload[1:], kinds)
        assert rest == b""
        answers.append(dict(zip(names, read, strict=False)))
    return answers


@pytest.fixture
def premises():
    """A premises with its hub."""
    return Premises()


@pytest.fixture
def device(premises):
    """A display on it."""
    return premises.member(PPMID, NodeKind.END_DEVICE, manufacturer_code=0x121D)


def test_addresses_are_told(premises, device):
    """NWK_addr (broadcast) and IEEE_addr find a device by its other address, with its children when asked for."""
    found = {"Status": Status.SUCCESS, "IEEEAddr": eui64(PPMID), "NWKAddr": device.short}
    (answer,) = ask(premises, premises.hub, 0xFFFD, ZDOCmd.NWK_addr_req, eui64(PPMID), 0, 0)
    assert {name: answer[name] for name in found} == found
    (answer,) = ask(premises, premises.hub, device.short, ZDOCmd.IEEE_addr_req, device.short, 0, 0)
    assert {name: answer[name] for name in found} == found
    (answer,) = ask(premises, device, 0, ZDOCmd.IEEE_addr_req, 0, 1, 0)
    assert (answer["IEEEAddr"], answer["NWKAddrAssocDevList"]) == (eui64(HUB), [device.short])
    (answer,) = ask(premises, device, 0, ZDOCmd.IEEE_addr_req, 0x7777, 0, 0)
    assert answer["Status"] == Status.DEVICE_NOT_FOUND


def test_a_parent_answers_for_its_sleepy_child(premises):
    """A broadcast NWK_addr request does not reach a sleeper in time: its parent knows."""
    sleepy = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    asker = premises.member(PPMID, NodeKind.END_DEVICE)
    (answer,) = ask(premises, asker, 0xFFFD, ZDOCmd.NWK_addr_req, eui64(METER), 0, 0)
    assert answer["NWKAddr"] == sleepy.short


@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE])
def test_the_node_descriptor_says_what_the_node_is(premises, kind):
    """Type, receiver, manufacturer code, stack revision 21."""
    device = premises.member(PPMID, kind, manufacturer_code=0x121D)
    (answer,) = ask(premises, premises.hub, device.short, ZDOCmd.Node_Desc_req, device.short, wait=10)
    descriptor = answer["NodeDescriptor"]
    assert descriptor.is_valid
    assert descriptor.is_router == (kind == NodeKind.ROUTER)
    assert descriptor.is_end_device == (kind != NodeKind.ROUTER)
    assert descriptor.is_receiver_on_when_idle == (kind != NodeKind.SLEEPY_END_DEVICE)
    assert descriptor.manufacturer_code == 0x121D
    (answer,) = ask(premises, device, 0, ZDOCmd.Node_Desc_req, 0)
    assert answer["NodeDescriptor"].is_coordinator
    assert answer["NodeDescriptor"].server_mask >> 9 == 21
    assert answer["NodeDescriptor"].server_mask & 1  # primary trust centre


def test_endpoints_are_described(premises, device):
    """Active_EP, Simple_Desc and Power_Desc; an endpoint that is not there has a status of its own."""
    hub = premises.hub
    (answer,) = ask(premises, hub, device.short, ZDOCmd.Active_EP_req, device.short)
    assert answer["ActiveEPList"] == [1]
    (answer,) = ask(premises, hub, device.short, ZDOCmd.Simple_Desc_req, device.short, 1)
    descriptor = answer["SimpleDescriptor"]
    assert (descriptor.endpoint, descriptor.profile, descriptor.device_type) == (1, 0x0109, 0x0500)
    assert (descriptor.input_clusters, descriptor.output_clusters) == ([CLUSTER, 0x0019], [0x0000])
    (answer,) = ask(premises, hub, device.short, ZDOCmd.Power_Desc_req, device.short)
    assert answer["PowerDescriptor"].current_power_source == 1
    told = premises.told[HUB]
    for endpoint, status in ((2, Status.NOT_ACTIVE), (0, Status.INVALID_EP)):
        told.seen.clear()
        hub.send(
            ApsMessage(
                device.short,
                0,
                0x0004,
                0,
                0,
                b"\x01" + device.short.to_bytes(2, "little") + bytes([endpoint]),
            )
        )
        premises.run(1)
        assert told.of("zdo")[0][1][1] == status


def test_matching_endpoints_are_found(premises, device):
    """Match_Desc by profile and cluster; who has no match is silent to a broadcast and says so to a unicast."""
    (answer,) = ask(premises, premises.hub, 0xFFFD, ZDOCmd.Match_Desc_req, 0xFFFD, 0x0109, [CLUSTER], [])
    assert (answer["NWKAddrOfInterest"], answer["MatchList"]) == (device.short, [1])
    (answer,) = ask(
        premises, premises.hub, device.short, ZDOCmd.Match_Desc_req, device.short, 0x0104, [CLUSTER], []
    )
    assert answer["MatchList"] == []
    assert ask(premises, premises.hub, 0xFFFD, ZDOCmd.Match_Desc_req, 0xFFFD, 0x0109, [0x0BAD], []) == []


def test_the_tables_are_told(premises, device):
    """Mgmt_Lqi: children and neighbouring routers; Mgmt_Rtg; an empty binding table."""
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    (answer,) = ask(premises, device, 0, ZDOCmd.Mgmt_Lqi_req, 0)
    rows = answer["Neighbors"].NeighborTableList
    assert [row.ieee for row in rows] == [eui64(BRIDGE), eui64(PPMID)]
    assert [row.nwk for row in rows] == [bridge.short, device.short]
    assert [row.relationship for row in rows] == [2, 1]
    assert all(
        row.extended_pan_id.serialize() == NETWORK.extended_pan_id.to_bytes(8, "little") for row in rows
    )
    (answer,) = ask(premises, device, 0, ZDOCmd.Mgmt_Rtg_req, 0)
    assert answer["Routes"].RoutingTableList == []
    (answer,) = ask(premises, device, 0, ZDOCmd.Mgmt_Bind_req, 0)
    assert answer["BindingTableList"] == []


def test_joining_is_permitted_over_the_air(premises, device):
    """Mgmt_Permit_Joining opens and closes every router that it reaches; 255 is not for ever over the air."""
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    premises.hub.permit_joining(0)
    ask(premises, device, 0xFFFC, ZDOCmd.Mgmt_Permit_Joining_req, 60, 0)
    assert premises.hub.permits_joining
    assert bridge.permits_joining
    premises.run(60)
    assert not bridge.permits_joining
    (answer,) = ask(premises, device, bridge.short, ZDOCmd.Mgmt_Permit_Joining_req, 255, 0)
    assert answer["Status"] == Status.SUCCESS
    premises.run(255)
    assert not bridge.permits_joining


def test_a_device_leaves_when_it_is_asked_to(premises, device):
    """Mgmt_Leave: the response comes, then the device goes; with rejoin it comes back; a coordinator stays."""
    (answer,) = ask(premises, premises.hub, device.short, ZDOCmd.Mgmt_Leave_req, eui64(PPMID), 0x80, wait=8)
    assert answer["Status"] == Status.SUCCESS
    assert device.network is not None
    assert premises.told[PPMID].of("down") == [("asked to leave by 0x0000",)]
    (answer,) = ask(premises, device, 0, ZDOCmd.Mgmt_Leave_req, eui64(HUB), 0)
    assert answer["Status"] == Status.NOT_SUPPORTED
    (answer,) = ask(premises, device, 0, ZDOCmd.Mgmt_Leave_req, eui64(OTHER), 0)
    assert answer["Status"] == Status.DEVICE_NOT_FOUND
    ask(premises, premises.hub, device.short, ZDOCmd.Mgmt_Leave_req, eui64(0), 0)
    assert device.network is None


def test_a_parent_makes_its_child_leave(premises, device):
    """Mgmt_Leave to a parent names the child."""
    other = premises.member(OTHER, NodeKind.END_DEVICE)
    (answer,) = ask(premises, other, 0, ZDOCmd.Mgmt_Leave_req, eui64(PPMID), 0)
    assert answer["Status"] == Status.SUCCESS
    assert device.network is None


def test_energies_are_measured_when_asked_for(premises, device):
    """Mgmt_NWK_Update with a scan duration: one energy per channel."""
    update = zdo_types.NwkUpdate(types.Channels.from_channel_list([11, 15, 20]), 2, 1)
    (answer,) = ask(premises, device, 0, ZDOCmd.Mgmt_NWK_Update_req, update, wait=5)
    assert answer["Status"] == Status.SUCCESS
    assert len(answer["EnergyValues"]) == 3


def test_the_network_moves_to_another_channel(premises, device):
    """Mgmt_NWK_Update broadcast with a new channel: every node moves, and messages go on."""
    update = zdo_types.NwkUpdate(
        types.Channels.from_channel_list([20]), zdo_types.NwkUpdate.CHANNEL_CHANGE_REQ, None, 1
    )
    request = b"\x01" + update.serialize()
    premises.hub.send(ApsMessage(0xFFFF, 0, 0x0038, 0, 0, request, acknowledged=False, broadcast=True))
    premises.hub.send(ApsMessage(0, 0, 0x0038, 0, 0, request))
    premises.run(12)
    assert (premises.hub.network.channel, device.network.channel) == (20, 20)
    assert device.network.update_id == 1
    (answer,) = ask(premises, device, 0, ZDOCmd.Active_EP_req, 0)
    assert answer["Status"] == Status.SUCCESS


def test_what_is_not_supported_is_said_to_be(premises, device):
    """Bind_req and anything unknown: NOT_SUPPORTED to a unicast, silence to a broadcast."""
    target = zdo_types.MultiAddress(addrmode=3, ieee=eui64(HUB), endpoint=1)
    (answer,) = ask(premises, premises.hub, device.short, ZDOCmd.Bind_req, eui64(PPMID), 1, CLUSTER, target)
    assert answer["Status"] == Status.NOT_SUPPORTED
    premises.told[HUB].seen.clear()
    premises.hub.send(ApsMessage(0xFFFD, 0, 0x0099, 0, 0, b"\x01", acknowledged=False, broadcast=True))
    premises.run(2)
    assert premises.told[HUB].of("zdo") == []


def test_requests_may_go_up_too(premises):
    """With hand_up_zdo_requests the application sees what the node has answered."""
    device = premises.member(PPMID, NodeKind.END_DEVICE, hand_up_zdo_requests=True)
    (answer,) = ask(premises, premises.hub, device.short, ZDOCmd.Active_EP_req, device.short)
    assert answer["Status"] == Status.SUCCESS
    assert 0x0005 in [cluster for cluster, _ in premises.told[PPMID].of("zdo")]


@given(cluster=st.sampled_from([*range(0x40), 0x99]), payload=st.binary(max_size=30))
def test_hostile_requests_raise_nothing(cluster, payload):
    """Any octets under any request: an answer or none, never an exception."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.send(ApsMessage(0, 0, cluster, 0, 0, payload))
    premises.run(1)
