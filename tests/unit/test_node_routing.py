"""More than one hop: neighbours, route discovery and repair, relayed broadcasts, route records, source routes."""

from __future__ import annotations

import pytest

from harness.emulation.node import NodeKind, NodeState, SentStatus
from harness.emulation.routing import link_cost
from harness.wire.mac import parse_mac
from harness.wire.nwk import open_nwk
from tests.unit.premises import HUB, METER, NETWORK, PPMID, SECOND, Premises, message

ROUTERS = [0x000D6F0000000010 + index for index in range(4)]
ONE, TWO, THREE, SPARE = ROUTERS


def chain(premises, length):
    """Routers in a row from the hub on, each hearing its two neighbours only."""
    row = [HUB, *ROUTERS[:length]]
    for index, one in enumerate(row):
        for other in row[index + 2 :]:
            premises.deaf(one, other)
    routers = []
    for eui64 in row[1:]:
        premises.run(2)
        router = premises.member(eui64, NodeKind.ROUTER, wait=8)
        router.permit_joining(255)
        routers.append(router)
    premises.run(20)
    return routers


def network_frames(premises):
    """Everything that was sent under the network key, opened, MAC retries left out: (transmitter, frame)."""
    seen = {}
    for _, psdu, *_ in premises.frames:
        mac = parse_mac(psdu)
        if mac.kind == 1:
            frame = open_nwk(mac.payload, NETWORK.network_key)
            if frame.aux is not None:
                seen[mac.payload] = (mac.src, frame)
    return list(seen.values())


def commands(premises, identifier):
    """Those NWK commands among network_frames."""
    return [
        (src, frame)
        for src, frame in network_frames(premises)
        if frame.kind == 1 and frame.payload[0] == identifier
    ]


def test_routers_know_their_neighbours():
    """Link status every 15 s: each router lists whom it hears, and knows who hears it."""
    premises = Premises()
    one, two, three = chain(premises, 3)
    assert list(premises.hub.neighbors) == [one.short]
    assert sorted(one.neighbors) == sorted([0, two.short])
    assert sorted(two.neighbors) == sorted([one.short, three.short])
    assert all(neighbor.outgoing_cost == 1 for neighbor in two.neighbors.values())
    premises.frames.clear()
    premises.run(150)
    assert len([src for src, _ in commands(premises, 0x08) if src == two.short]) == pytest.approx(10, abs=1)


def test_a_router_that_went_dark_is_no_neighbour_any_more():
    """After four periods without a link status it is forgotten, with the routes by way of it."""
    premises = Premises()
    one, two = chain(premises, 2)
    premises.hub.send(message(two.short), tag=1)
    premises.run(2)
    assert two.short in premises.hub.routes
    one.power_off()
    premises.run(90)
    assert premises.hub.neighbors == {}
    assert premises.hub.routes == {}
    assert premises.hub.counters.neighbors_removed == 1


def test_messages_find_their_way_over_several_hops():
    """One route discovery each way at most; then messages and acknowledgements follow the tables."""
    premises = Premises()
    routers = chain(premises, 3)
    three = routers[2]
    premises.frames.clear()
    for number in range(5):
        three.send(message(0, bytes([number])), tag=number)
        premises.hub.send(message(three.short, bytes([number])), tag=number)
        premises.run(2)
    assert [each.payload[0] for each in premises.told[HUB].messages] == list(range(5))
    assert [each.payload[0] for each in premises.told[THREE].messages] == list(range(5))
    assert premises.hub.counters.route_discoveries + three.counters.route_discoveries <= 2
    assert premises.hub.routes[three.short].next_hop == routers[0].short
    assert three.routes[0].next_hop == routers[1].short
    assert three.routes[0].cost == 3


def test_a_relayed_frame_is_secured_anew():
    """Each hop uses its own EUI-64 and frame counter; originator, destination and sequence stay, the radius falls."""
    premises = Premises()
    one, two = chain(premises, 2)
    premises.hub.send(message(two.short))
    premises.run(3)
    premises.frames.clear()
    premises.hub.send(message(two.short))
    premises.run(1)
    hops = [
        (src, frame) for src, frame in network_frames(premises) if frame.dst == two.short and frame.kind == 0
    ]
    assert [(src, frame.aux.source) for src, frame in hops] == [(0, HUB), (one.short, ONE)]
    assert [frame.radius for _, frame in hops] == [30, 29]
    assert hops[0][1].sequence == hops[1][1].sequence
    assert hops[0][1].payload == hops[1][1].payload


def test_an_end_device_leaves_routing_to_its_parent():
    """Behind two routers it reaches the hub, and the hub reaches it by its parent, asleep or not."""
    premises = Premises()
    chain(premises, 2)
    for far in (METER, PPMID):
        premises.deaf(HUB, far)
        premises.deaf(ONE, far)
    premises.deaf(METER, PPMID)
    meter = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, wait=10)
    ppmid = premises.member(PPMID, NodeKind.END_DEVICE, wait=10)
    for device in (meter, ppmid):
        device.send(message(0), tag=1)
        premises.run(10)
        premises.hub.send(message(device.short), tag=device.short)
        premises.run(10)
        assert premises.told[device.eui64].sent == [(1, SentStatus.DELIVERED)]
        assert premises.told[HUB].sent[-1] == (device.short, SentStatus.DELIVERED)
        assert device.counters.route_discoveries == 0
    ppmid.send(message(meter.short, secured=False), tag=2)
    premises.run(10)
    assert premises.told[PPMID].sent[-1] == (2, SentStatus.DELIVERED)


def test_another_way_is_found_when_one_fails():
    """Of two routers to the same place the one in use loses its power: messages go by the other."""
    premises = Premises()
    premises.deaf(HUB, TWO)
    first = premises.member(ONE, NodeKind.ROUTER)
    spare = premises.member(SPARE, NodeKind.ROUTER)
    first.permit_joining(255)
    far = premises.member(TWO, NodeKind.ROUTER, wait=10)
    premises.run(20)
    premises.hub.send(message(far.short), tag=1)
    premises.run(5)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    used = premises.hub.routes[far.short].next_hop
    (first if used == first.short else spare).power_off()
    premises.hub.send(message(far.short), tag=2)
    far.send(message(0), tag=3)
    premises.run(10)
    assert premises.told[HUB].sent[-1] == (2, SentStatus.DELIVERED)
    assert premises.told[TWO].sent == [(3, SentStatus.DELIVERED)]
    assert premises.hub.routes[far.short].next_hop == (spare if used == first.short else first).short


def test_a_router_reports_that_it_cannot_go_on():
    """When the hop after it fails, the originator gets a network status and drops the route."""
    premises = Premises()
    _, two = chain(premises, 2)
    premises.hub.send(message(two.short))
    premises.run(3)
    two.power_off()
    premises.hub.send(message(two.short), tag=1)
    premises.run(1)
    assert premises.told[HUB].of("route failed") == [(two.short, 0x02)]
    premises.run(15)
    assert premises.told[HUB].sent[-1] == (1, SentStatus.NO_ROUTE)


def test_a_message_to_an_unknown_address_finds_no_route():
    """Three route requests, then NO_ROUTE; the retries of the message ask again."""
    premises = Premises()
    premises.frames.clear()
    premises.hub.send(message(0x5555, secured=False), tag=1)
    premises.run(10)
    assert premises.told[HUB].sent == [(1, SentStatus.NO_ROUTE)]
    assert len(commands(premises, 0x01)) >= 3


def test_a_lost_route_request_is_sent_again():
    """Discovery survives the loss of its broadcasts."""
    premises = Premises()
    _, two = chain(premises, 2)
    premises.air.drop(1, where=lambda psdu, sender: sender == HUB and psdu[5:7] == b"\xff\xff")
    premises.hub.send(message(two.short), tag=1)
    premises.run(5)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]


def test_a_one_way_link_is_not_used():
    """A router that hears a neighbour which does not hear it finds the way round."""
    premises = Premises()
    one, two = chain(premises, 2)
    premises.air.set_link(TWO, HUB, heard=True, both_ways=False)  # heard, but not hearing
    premises.run(40)
    assert premises.hub.neighbors[two.short].outgoing_cost == 0
    premises.hub.send(message(two.short), tag=1)
    premises.run(5)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    assert premises.hub.routes[two.short].next_hop == one.short


def test_a_better_link_is_preferred():
    """Two good hops cost less than one bad link."""
    premises = Premises()
    premises.air.set_link(HUB, TWO, rssi=-97.0)
    one = premises.member(ONE, NodeKind.ROUTER)
    one.permit_joining(255)
    assert link_cost(255) + link_cost(255) < link_cost(15)
    two = premises.member(TWO, NodeKind.ROUTER, wait=10)
    assert two.parent_short == one.short


def test_every_router_repeats_a_broadcast():
    """Whoever heard all its neighbours repeat it leaves it at that; nobody delivers it twice."""
    premises = Premises()
    routers = [premises.member(eui64, NodeKind.ROUTER) for eui64 in ROUTERS]
    premises.run(40)
    premises.frames.clear()
    premises.hub.send(message(0xFFFF, secured=False, acknowledged=False, broadcast=True))
    premises.run(3)
    relays = [src for src, frame in network_frames(premises) if frame.kind == 0]
    assert set(relays) == {0, *(router.short for router in routers)}
    assert len(relays) <= 2 * len(set(relays))  # a collision costs a repetition
    assert premises.unread() == dict.fromkeys(ROUTERS, 1)


def test_a_broadcast_that_was_not_heard_is_repeated():
    """Passive acknowledgement: a neighbour that did not pass it on gets it again."""
    premises = Premises()
    premises.member(ONE, NodeKind.ROUTER)
    premises.run(20)
    premises.air.drop(1, where=lambda psdu, sender: sender == HUB)
    premises.hub.send(message(0xFFFF, secured=False, acknowledged=False, broadcast=True))
    premises.run(2)
    assert premises.unread() == {ONE: 1}


def test_a_broadcast_goes_no_further_than_its_radius():
    """Radius 1 reaches the neighbours, radius 2 theirs."""
    for radius, reached in ((1, [ONE]), (2, [ONE, TWO])):
        premises = Premises()
        chain(premises, 3)
        premises.hub.send(message(0xFFFF, secured=False, acknowledged=False, broadcast=True, radius=radius))
        premises.run(5)
        assert premises.unread() == dict.fromkeys(reached, 1)


def test_the_table_of_broadcasts_is_limited():
    """More broadcasts than the table holds for nine seconds are refused, and counted."""
    premises = Premises()
    premises.member(PPMID, NodeKind.END_DEVICE)
    for tag in range(60):
        premises.hub.send(
            message(0xFFFD, bytes([tag]), secured=False, acknowledged=False, broadcast=True), tag=tag
        )
    premises.run(5)
    statuses = [status for _, status in premises.told[HUB].sent]
    assert statuses.count(SentStatus.NOT_ACKNOWLEDGED) == premises.hub.counters.broadcast_table_full > 0
    premises.run(10)
    premises.hub.send(message(0xFFFD, b"later", secured=False, acknowledged=False, broadcast=True), tag=99)
    premises.run(1)
    assert premises.told[HUB].sent[-1] == (99, SentStatus.DELIVERED)


@pytest.mark.parametrize("high_ram", [True, False])
def test_a_concentrator_learns_the_ways_to_its_devices(high_ram):
    """Many-to-one discovery: routers know the way in without asking, and record it; the hub answers by source route."""
    premises = Premises()
    one, two, three = chain(premises, 3)
    premises.hub.request_many_to_one_routes(high_ram=high_ram)
    premises.run(3)
    assert three.routes[0].next_hop == two.short
    premises.frames.clear()
    for _ in range(2):
        three.send(message(0), tag=1)
        premises.run(3)
    assert premises.told[THREE].sent == [(1, SentStatus.DELIVERED)] * 2
    routes = premises.told[HUB].of("route")
    assert routes == [(three.short, THREE, (two.short, one.short))] * (1 if high_ram else 2)
    down = [frame for src, frame in network_frames(premises) if src == 0 and frame.dst == three.short]
    assert all(frame.relays == (two.short, one.short) for frame in down)
    premises.hub.send(message(three.short), tag=2)
    premises.run(2)
    assert premises.told[HUB].sent == [(2, SentStatus.DELIVERED)]
    assert premises.hub.counters.route_discoveries == 0


def test_a_parent_records_the_route_for_its_end_device():
    """The route record of an end device's message begins with its parent (Zigbee PRO 3.6.3.5.4)."""
    premises = Premises()
    one, two = chain(premises, 2)
    premises.deaf(HUB, PPMID)
    premises.deaf(ONE, PPMID)
    ppmid = premises.member(PPMID, NodeKind.END_DEVICE, wait=10)
    premises.hub.request_many_to_one_routes()
    premises.run(3)
    ppmid.send(message(0), tag=1)
    premises.run(3)
    assert premises.told[HUB].of("route") == [(ppmid.short, PPMID, (two.short, one.short))]
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]


def test_a_source_route_is_followed():
    """The caller names the relays; when one fails the originator hears of it and finds a way of its own."""
    premises = Premises()
    one, two = chain(premises, 2)
    premises.frames.clear()
    premises.hub.send(message(two.short), tag=1, relays=(one.short,))
    premises.run(2)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    sent = [frame for src, frame in network_frames(premises) if frame.dst == two.short and frame.kind == 0]
    assert [frame.relays for frame in sent] == [(one.short,)] * 2
    premises.hub.send(message(two.short), tag=2, relays=(0x4444, one.short))
    premises.run(8)
    assert (0x4444, 0x0B) not in premises.told[HUB].of("route failed")
    assert premises.told[HUB].of("route failed") == [(two.short, 0x0B)]
    premises.hub.send(message(two.short), tag=3)
    premises.run(3)
    assert premises.told[HUB].sent[-1] == (3, SentStatus.DELIVERED)


def test_a_router_with_power_again_goes_on_routing():
    """A router resumes silently with its children; what it relays is accepted, for its counter went on."""
    premises = Premises()
    (one,) = chain(premises, 1)
    premises.deaf(HUB, METER)
    meter = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, wait=10)
    one.power_off()
    premises.run(5)
    one.power_on()
    assert one.state == NodeState.JOINED
    premises.run(20)
    meter.send(message(0), tag=1)
    premises.run(10)
    assert premises.told[METER].sent == [(1, SentStatus.DELIVERED)]
    assert premises.told[METER].of("down") == []


def test_a_day_of_a_premises_stays_small_and_calm():
    """An hour with sleepy children and secured reads: everything is delivered, tables stay within bounds."""
    premises = Premises()
    premises.frames = premises.frames[:0]
    devices = [premises.member(0x1000 + index, NodeKind.SLEEPY_END_DEVICE, wait=4) for index in range(5)]
    displays = [premises.member(0x2000 + index, NodeKind.END_DEVICE, wait=4) for index in range(2)]
    for _ in range(60):
        for display in displays:
            display.send(message(0, b"\x00\x01\x00\x00\x00"))
        premises.run(10)
        premises.frames.clear()
    assert all(device.state == NodeState.JOINED for device in devices)
    assert len(premises.told[HUB].messages) == 120
    hub = premises.hub
    assert len(hub.aps._duplicates) <= 32
    assert len(hub.nwk._broadcasts) <= 48
    assert hub.counters.nwk_counter_failures == 0
    assert premises.air.now >= 600 * SECOND
