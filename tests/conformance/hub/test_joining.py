"""Who may join the hub's HAN, how much room its Device Log has, and which tunnels it opens."""

from __future__ import annotations

import pytest

from harness import Device, Hub, RemoteProtocolError, Rig, minutes, seconds
from harness.gbcs import DeliveryRefusal, JoinResponse
from harness.zigbee import tunneling, zcl

pytestmark = pytest.mark.under_test("hub")

# Published test vectors with their CRCs: no device's own.
ANOTHER_INSTALL_CODE = bytes.fromhex("83FED3407A932B70")
STRANGERS = 0x00_0D_6F_00_0C_00_00_00  # EUI-64s of devices that the lab does not have
TUNNELING = tunneling.TUNNELING_CLUSTER


# --- JN-01: the join period and the install code ----------------------------------------------------------------------


@pytest.mark.requirement("JN-01")
@pytest.mark.parametrize("name", ["esme", "gsme", "hcalcs", "ppmid", "b1", "ihd"])
async def test_a_device_joins_in_its_period_with_its_install_code(rig: Rig, hub: Hub, name: str) -> None:
    """A device whose EUI-64 and install code are in the Device Log gets the network key, and a link key of its own."""
    device = rig.device(name)
    await hub.admit(device, period=minutes(4))
    await device.power_on()
    await device.until(joined=True, keyed=True, within=minutes(10))


@pytest.mark.requirement("JN-01")
async def test_a_wrong_install_code_does_not_join(rig: Rig, hub: Hub) -> None:
    """Under another install code than the Device Log's no network key is given that the device can read."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, install_code=ANOTHER_INSTALL_CODE, period=minutes(4))
    await never_joins(ppmid, minutes(5))


@pytest.mark.requirement("JN-01")
async def test_nothing_joins_after_its_period(rig: Rig, hub: Hub) -> None:
    """A device that comes when its join period is over is not let in; with an entry anew, within its period, it is."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, period=seconds(60))
    await rig.sleep(seconds(70))
    await never_joins(ppmid, minutes(5))
    # Whether adding it twice opens the period again no document says: it is taken off before.
    await hub.remove(ppmid)
    await hub.admit(ppmid, period=minutes(4))
    await ppmid.until(joined=True, within=minutes(4))


@pytest.mark.requirement("JN-01")
async def test_a_device_that_is_not_in_the_log_does_not_join_with_another(rig: Rig, hub: Hub) -> None:
    """While the HAN is open for one device, another that is not in the Device Log stays out."""
    await hub.admit(rig.device("ppmid"), period=minutes(10))
    await never_joins(rig.device("esme"), minutes(5))


async def never_joins(device: Device, within: float) -> None:
    """Give it power, and see it stay out."""
    await device.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await device.until(joined=True, within=within)


# --- JN-05: duplicates, removal, the historic log ---------------------------------------------------------------------


@pytest.mark.requirement("JN-05")
async def test_a_duplicate_entry_is_a_success_and_changes_no_key(rig: Rig, hub: Hub) -> None:
    """CCS01 with a device that is in the log: success, its new key is discarded, and the first one joins."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, period=minutes(10))
    await hub.admit(ppmid, install_code=ANOTHER_INSTALL_CODE, period=minutes(10))
    await ppmid.power_on()
    await ppmid.until(joined=True, keyed=True, within=minutes(5))


@pytest.mark.requirement("JN-05")
async def test_a_removed_device_is_off_the_han(rig: Rig, hub: Hub, ppmid: Device, esme: Device) -> None:
    """CCS02: the device is told to leave and does not come back, not even after a power cut; the others stay."""
    await rig.sleep(minutes(1))  # it is back for good
    await hub.remove(ppmid)
    await ppmid.until(joined=False, within=minutes(2))
    await ppmid.power_off()
    await never_joins(ppmid, minutes(10))
    assert esme.joined
    with pytest.raises(RemoteProtocolError) as refused:
        await hub.wan.read_version(ppmid)
    assert refused.value.code is DeliveryRefusal.NOT_IN_DEVICE_LOG


@pytest.mark.requirement("JN-05")
async def test_a_device_of_the_historic_log_joins_by_its_install_code_in_the_second_half(
    rig: Rig, hub: Hub, ppmid: Device
) -> None:
    """CCS01: the first half of the period is for its old link key, which it lost; the second for the install code."""
    await rig.sleep(minutes(1))  # it is back for good
    await hub.remove(ppmid)
    await ppmid.until(joined=False, within=minutes(2))
    await ppmid.power_off()
    period = minutes(20)
    await hub.admit(ppmid, period=period)
    began = rig.now()
    await ppmid.power_on()
    await ppmid.until(joined=True, within=period)
    assert rig.now() - began >= period / 2


# --- JN-05, AH-14: room in the Device Log -----------------------------------------------------------------------------


async def fill(hub: Hub, kind: str, most: int, first: int = 0) -> int:
    """Add devices that the lab does not have, so many or until deviceLogFull; return how many the hub took."""
    for count in range(most):
        try:
            await hub.admit_stranger(
                STRANGERS + first + count, kind, install_code=ANOTHER_INSTALL_CODE, period=minutes(60)
            )
        except RemoteProtocolError as error:
            if error.code is not JoinResponse.DEVICE_LOG_FULL:
                raise
            return count
    return most


def ppmids(hub: Hub) -> int:
    """How many PPMIDs, bridges among them, a hub's profile has room for: Type 1 devices, or fewer of those."""
    limits = hub.profile.limits
    return limits.type_1 if limits.ppmid is None else min(limits.type_1, limits.ppmid)


@pytest.mark.requirement("JN-05")
@pytest.mark.parametrize(
    ("kind", "promised"), [("esme", 4), ("gsme", 1), ("hcalcs", 7), ("ppmid", 2), ("ihd", 3)]
)
async def test_the_device_log_has_room_for_so_many_of_a_kind(hub: Hub, kind: str, promised: int) -> None:
    """As many as its profile says; CHTS 4.4.2.1 promises 4 ESMEs, a GSME, 7 Type 1 (2 of them PPMIDs), 3 Type 2."""
    limits = hub.profile.limits
    room = {
        "esme": limits.esme,
        "gsme": limits.gsme,
        "hcalcs": limits.type_1,
        "ppmid": ppmids(hub),
        "ihd": limits.type_2,
    }[kind]
    assert await fill(hub, kind, 20) == room >= promised
    await hub.remove(STRANGERS)
    assert await fill(hub, kind, 20, first=0x100) == 1, "a removal makes room for one"


@pytest.mark.requirement("JN-05")
async def test_the_device_log_has_so_many_entries_in_all(hub: Hub) -> None:
    """All kinds together fill its 16 entries (DUIS schema) and no more, of which the hub's own GPF may have one."""
    limits = hub.profile.limits
    kinds = ("esme", "gsme", "hcalcs", "ihd")
    taken = [await fill(hub, kind, 20, 0x100 * number) for number, kind in enumerate(kinds, 1)]
    of_kinds = limits.esme + limits.gsme + limits.type_1 + limits.type_2
    assert sum(taken) == min(limits.total - limits.gpf_takes_entry, of_kinds)


@pytest.mark.requirement("AH-14")
async def test_the_bridge_past_the_limit_is_refused(rig: Rig, hub: Hub) -> None:
    """Type 1 devices but for one place, which a bridge takes: deviceLogFull for the next, and it does not join."""
    limit = hub.profile.limits.type_1
    assert await fill(hub, "hcalcs", limit - 1) == limit - 1
    b1, b2 = rig.device("b1"), rig.device("b2")
    await hub.admit(b1, period=minutes(30))
    with pytest.raises(RemoteProtocolError) as refused:
        await hub.admit(b2, period=minutes(30))
    assert refused.value.code is JoinResponse.DEVICE_LOG_FULL
    await b1.power_on()
    await b1.until(joined=True, keyed=True, within=minutes(10))
    await hub.admit(rig.device("esme"), period=minutes(30))  # the HAN is open, and not to the bridge
    await never_joins(b2, minutes(5))
    assert b1.joined
    await hub.remove(STRANGERS)
    await hub.admit(b2, period=minutes(30))
    await b2.until(joined=True, keyed=True, within=minutes(10))


@pytest.mark.requirement("AH-14")
@pytest.mark.parametrize("names", [("b1",), ("b1", "b2"), ("b1", "b2", "b3", "b4")], ids=len)
async def test_each_bridge_on_the_log_is_a_type_1_device_less(
    rig: Rig, hub: Hub, names: tuple[str, ...]
) -> None:
    """Option B has B1 alone on the log, the base solution two to four bridges: so many fewer places are left."""
    if len(names) > ppmids(hub):
        pytest.skip(f"{hub.name} has room for {ppmids(hub)} PPMIDs, bridges among them")
    for name in names:
        await hub.admit(rig.device(name), period=minutes(30))
    limit = hub.profile.limits.type_1
    assert await fill(hub, "hcalcs", limit) == limit - len(names)


# --- JN-04: tunnels ---------------------------------------------------------------------------------------------------


def requests(heard: list) -> list[tunneling.RequestTunnel]:
    """The tunnels that the hub asked for; each request came under the link key."""
    frames = [(message, zcl.parse_frame(message.payload)) for message in heard]
    asked = [
        (message, request)
        for message, frame in frames
        if isinstance(request := tunneling.parse_message(frame), tunneling.RequestTunnel)
    ]
    assert all(message.secured for message, _ in asked)
    return [request for _, request in asked]


@pytest.mark.requirement("JN-04")
@pytest.mark.parametrize("name", ["esme", "hcalcs", "ppmid", "b1"])
async def test_the_hub_opens_a_tunnel_once_there_is_a_link_key(rig: Rig, hub: Hub, name: str) -> None:
    """Request Tunnel: protocol 6, manufacturer 0xFFFF, no flow control, 1500 octets (GBCS 10.2.2), secured."""
    device = rig.device(name)
    heard = device.overhear(TUNNELING)
    await rig.joined(name)
    await rig.sleep(minutes(2))
    assert requests(heard) == [tunneling.RequestTunnel(6, 0xFFFF, False, 1500)]
    assert await hub.wan.version(device, within=minutes(2)) == device.version_at_start


@pytest.mark.requirement("JN-04")
async def test_the_hub_opens_a_tunnel_anew_to_a_device_that_comes_back(rig: Rig, esme: Device) -> None:
    """A device that had no power and says that it is back has lost its tunnel: the hub opens another, and no more."""
    await rig.sleep(minutes(2))
    heard = esme.overhear(TUNNELING)
    await esme.cut_power(seconds(60))
    await rig.sleep(minutes(5))
    assert requests(heard) == [tunneling.RequestTunnel(6, 0xFFFF, False, 1500)]


@pytest.mark.requirement("JN-04")
async def test_the_hub_opens_a_tunnel_anew_when_it_is_old(rig: Rig, esme: Device) -> None:
    """After 0xFFFF seconds, and not before, the hub asks for the tunnel again (GBCS 10.2.2.1)."""
    await rig.sleep(minutes(2))
    heard = esme.overhear(TUNNELING)
    await rig.sleep(0xFFFF - minutes(5))
    assert requests(heard) == []
    await rig.sleep(minutes(10))
    assert requests(heard) == [tunneling.RequestTunnel(6, 0xFFFF, False, 1500)]


@pytest.mark.requirement("JN-04")
async def test_the_hub_asks_a_busy_device_again_after_three_minutes(rig: Rig, esme: Device) -> None:
    """Busy: not before three minutes are over, and then again until there is a tunnel (GBCS 10.2.2.1)."""
    await rig.sleep(minutes(2))
    await esme.power_off()
    esme.play_busy(True)
    heard = esme.overhear(TUNNELING)
    await esme.power_on()
    await rig.sleep(seconds(170))
    assert len(requests(heard)) == 1
    await rig.sleep(seconds(20))
    assert len(requests(heard)) == 2
    esme.play_busy(False)
    await rig.sleep(minutes(10))
    assert len(requests(heard)) == 3


@pytest.mark.requirement("JN-04")
async def test_a_gsme_opens_its_own_tunnel(rig: Rig, hub: Hub) -> None:
    """The hub asks a GSME for no tunnel, and grants the one that the GSME asks for, of 1500 octets."""
    gsme = rig.device("gsme")
    heard = gsme.overhear(TUNNELING)
    await rig.joined("gsme")
    await rig.sleep(minutes(60))
    assert requests(heard) == []
    answers = [
        answer
        for message in heard
        if isinstance(
            answer := tunneling.parse_message(zcl.parse_frame(message.payload)),
            tunneling.RequestTunnelResponse,
        )
    ]
    assert [(answer.status, answer.max_transfer) for answer in answers] == [(0, 1500)]
    assert all(message.secured for message in heard)


@pytest.mark.requirement("JN-04")
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (tunneling.RequestTunnel(protocol=5), tunneling.TunnelStatus.PROTOCOL_NOT_SUPPORTED),
        (tunneling.RequestTunnel(manufacturer=0x121D), tunneling.TunnelStatus.PROTOCOL_NOT_SUPPORTED),
        (tunneling.RequestTunnel(flow_control=True), tunneling.TunnelStatus.FLOW_CONTROL_NOT_SUPPORTED),
    ],
    ids=["another protocol", "another manufacturer", "flow control"],
)
async def test_the_hub_grants_a_gsme_no_other_tunnel(
    gsme: Device, request_: tunneling.RequestTunnel, status: int
) -> None:
    """Another protocol, a manufacturer's own, and flow control are refused with the status that says so (ZSE D.6)."""
    frame = tunneling.build_message(request_, 0xA1, from_server=False)
    (answer,) = await gsme.request(TUNNELING, frame)
    told = tunneling.parse_message(zcl.parse_frame(answer.payload))
    assert isinstance(told, tunneling.RequestTunnelResponse)
    assert told.status == status
