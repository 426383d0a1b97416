"""What bridges that speak to each other need of the nodes beneath them: addresses of others, and no stale children."""

from __future__ import annotations

import struct

from harness.emulation.node import NodeKind
from harness.wire.application import BROADCAST_RX_ON, ZDO_PROFILE, ApsMessage
from tests.unit.premises import BRIDGE, HUB, PPMID, Premises, link_key, message


def test_an_address_response_tells_whose_key_goes_with_an_address():
    """A node that has only asked for another's address can secure a message to it: APS goes by EUI-64s."""
    premises = Premises()
    other = premises.member(PPMID, NodeKind.END_DEVICE)
    one = premises.member(BRIDGE, NodeKind.END_DEVICE)  # too late for the other's announcement
    one.set_link_key(PPMID, link_key(HUB))
    other.set_link_key(BRIDGE, link_key(HUB))
    assert one.lookup_eui64(other.short) is None
    question = struct.pack("<BQBB", 1, PPMID, 0, 0)
    one.send(
        ApsMessage(BROADCAST_RX_ON, ZDO_PROFILE, 0x0000, 0, 0, question, acknowledged=False, broadcast=True)
    )
    premises.run(2)
    assert one.lookup_eui64(other.short) == PPMID
    one.send(message(other.short, b"under our key"))
    premises.run(2)
    assert [(it.payload, it.secured) for it in premises.told[PPMID].messages] == [(b"under our key", True)]


def test_a_parent_drops_a_child_whose_announcement_comes_by_another_hop():
    """A child that rejoins elsewhere under its old address is reached there, not kept waiting for at its old parent."""
    premises = Premises()
    router = premises.member(BRIDGE, NodeKind.ROUTER)
    router.permit_joining(255)
    premises.deaf(HUB, PPMID)
    child = premises.member(PPMID, NodeKind.SLEEPY_END_DEVICE)
    short = child.short
    assert list(router.children) == [PPMID]
    child.power_off()
    premises.air.set_link(HUB, PPMID, heard=True)
    premises.deaf(BRIDGE, PPMID)
    child.power_on()
    premises.run(10)
    assert (child.short, child.parent_short) == (short, 0)
    assert list(router.children) == []
    router.send(message(short, b"by way of the hub", secured=False))
    premises.run(10)
    assert [it.payload for it in premises.told[PPMID].messages] == [b"by way of the hub"]
