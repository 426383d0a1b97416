"""Smart Energy security on the standing rig, through unmodified bellows and zigpy, read by tshark."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import hours, minutes, open_rig
from harness.members.hub import ReadFailed, WanMessage
from harness.members.security import UnsecuredRefused
from harness.members.tunnels import MessageReceived
from harness.rig.authority import make_authority, save_credentials
from harness.rig.images import make_image
from harness.wire.cbke_values import KeyEstablishmentFailed
from harness.wire.clusters import CURRENT_FILE_VERSION
from harness.wire.ezsp import VERSIONS
from harness.wire.gbcs import build_message
from harness.wire.gbcs_payloads import ReadFirmwareVersion, message_of
from harness.wire.ota_messages import OTA_CLUSTER
from tests.unit.test_push import rig_file

SUPPLIER = 0x90B3D51F30010000
SECURED_CLUSTERS = "zbee_aps.cluster in {0x0019, 0x0025, 0x0704}"
EVERY_VERSION = pytest.mark.parametrize("version", sorted({8, 13, 14, VERSIONS[-1]}))


@pytest.mark.virtual_time
@EVERY_VERSION
async def test_a_join_ends_in_a_link_key_and_everything_else_travels_under_it(
    version: int, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """tshark reads a whole CBKE and what comes after: no Smart Energy message is without APS security."""
    evidence = tmp_path / "evidence"
    async with open_rig(rig_file(tmp_path, hub={"ncp": {"ezsp": version}}), evidence=evidence) as rig:
        ppmid = await rig.joined("ppmid")
        assert ppmid.keyed
        image = make_image(random.Random(7))(target=ppmid, size=2048)
        await rig.hub.offer(image, to=ppmid)
        await ppmid.until(running=image.version, within=hours(2))
        rig.check()
    capture = check_capture(evidence / "han.pcap", evidence)
    # Initiate, Ephemeral Data and Confirm Key Data, a request and a response each; nothing was repeated or terminated.
    commands = capture.fields(
        "zbee_zcl_se.ke.cmd.srv_rx.id", "zbee_zcl_se.ke.cmd.srv_tx.id", where="zbee_aps.cluster == 0x0800"
    )
    told = [name for row in commands for name in row if name]
    assert told == ["0x00", "0x00", "0x01", "0x01", "0x02", "0x02"]
    assert capture.count(SECURED_CLUSTERS) > 100
    assert capture.count(f"{SECURED_CLUSTERS} && !(zbee_aps.security == 1)") == 0
    (line,) = [line for line in (evidence / "zigbee_pc_keys").read_text().splitlines() if "link key" in line]
    assert line.split('"')[1] not in (evidence / "journal.jsonl").read_text()


@pytest.mark.virtual_time
@EVERY_VERSION
async def test_a_gbcs_message_goes_through_the_tunnel(
    version: int, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """The hub opens the tunnel after key establishment; tshark finds the GBCS message in it, whole."""
    evidence = tmp_path / "evidence"
    async with open_rig(rig_file(tmp_path, hub={"ncp": {"ezsp": version}}), evidence=evidence) as rig:
        ppmid = await rig.joined("ppmid")
        message = message_of(
            ReadFirmwareVersion(), originator=SUPPLIER, recipient=ppmid.eui64, originator_counter=1000
        )
        octets = build_message(message)
        assert await rig.hub.wan.deliver_command(ppmid.eui64, octets) is None
        await rig.until(
            lambda: MessageReceived(rig.hub.eui64, octets) in list(rig.journal.since(0, "ppmid")),
            within=minutes(5),
            failure=lambda: "the PPMID has not received the message",
        )
        rig.check()
    capture = check_capture(evidence / "han.pcap", evidence)
    assert capture.fields("gbcs_message.grouping_header.message_code", where="gbcs_message") == [("0x0129",)]


@pytest.mark.virtual_time
@EVERY_VERSION
async def test_the_longest_message_crosses_the_tunnel_in_fragments_both_ways(
    version: int, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """1500 octets, the most a tunnel takes, arrive whole from either end, and tshark reassembles both."""
    evidence = tmp_path / "evidence"
    there, back = random.Random(1).randbytes(1500), random.Random(2).randbytes(1500)
    async with open_rig(rig_file(tmp_path, hub={"ncp": {"ezsp": version}}), evidence=evidence) as rig:
        ppmid = await rig.joined("ppmid")
        await rig.sleep(minutes(1))
        assert await rig.hub.wan.deliver_command(ppmid.eui64, there) is None
        node = rig.bench.nodes["ppmid"]
        node.behaviour.send_message(back, node.air.now / 1e6)
        node.run([])
        await rig.sleep(minutes(1))
        assert MessageReceived(rig.hub.eui64, there) in list(rig.journal.since(0, "ppmid"))
        assert WanMessage(ppmid.eui64, back) in list(rig.journal.since(0, "hub"))
        rig.check()
    capture = check_capture(evidence / "han.pcap", evidence)
    whole = capture.fields("zbee_aps.reassembled.length", where="zbee_aps.reassembled.length")
    assert len([length for (length,) in whole if int(length) >= 1500]) == 2


@pytest.mark.virtual_time
async def test_a_hub_of_an_unknown_issuer_is_refused_and_the_ppmid_tries_again(tmp_path: Path) -> None:
    """UNKNOWN_ISSUER ends each attempt, no Smart Energy traffic follows, and the next attempt comes."""
    another = make_authority(random.Random(3).randbytes, issuer=0x4F54484552434131)
    save_credentials(another.issue(0x000D6F000A9069E7, random.Random(4).randbytes), tmp_path / "hub.json")
    path = rig_file(tmp_path, hub={"credentials": "hub.json"})
    async with open_rig(path) as rig:
        ppmid = rig.device("ppmid")
        await rig.hub.admit(ppmid)
        await ppmid.power_on()
        await rig.sleep(minutes(3))
        failures = [
            event for event in rig.journal.since(0, "ppmid") if isinstance(event, KeyEstablishmentFailed)
        ]
        assert len(failures) >= 2
        assert {failure.status.name for failure in failures if failure.status is not None} == {
            "UNKNOWN_ISSUER"
        }
        assert not ppmid.keyed
        assert await rig.hub.read(ppmid, OTA_CLUSTER, CURRENT_FILE_VERSION) is None
        assert isinstance(list(rig.journal.since(0, "hub"))[-1], ReadFailed)


@pytest.mark.virtual_time
async def test_unsecured_smart_energy_traffic_is_refused_and_journalled(tmp_path: Path) -> None:
    """A Read Attributes of the OTA cluster without APS security gets no value, and is in the PPMID's journal."""
    async with open_rig(rig_file(tmp_path)) as rig:
        ppmid = await rig.joined("ppmid")
        assert await rig.hub.read(ppmid, OTA_CLUSTER, CURRENT_FILE_VERSION, plain=True) is None
        refused = [event for event in rig.journal.since(0, "ppmid") if isinstance(event, UnsecuredRefused)]
        assert [(event.cluster, event.secured) for event in refused] == [(OTA_CLUSTER, False)]
        assert await ppmid.version() == ppmid.version_at_start


@pytest.mark.virtual_time
async def test_a_link_key_outlives_a_power_cut_and_a_reset_of_the_hubs_radio(tmp_path: Path) -> None:
    """Neither the PPMID nor the hub establishes another key: the one they have serves on."""
    async with open_rig(rig_file(tmp_path)) as rig:
        ppmid = await rig.joined("ppmid")
        await rig.sleep(5)
        seen = len(rig.journal)
        await ppmid.cut_power(30)
        await rig.hub.reset_radio()
        assert await ppmid.version(within=minutes(5)) == ppmid.version_at_start
        names = {type(event).__name__ for event in rig.journal.since(seen, "hub")}
        assert "KeyEstablished" not in names
        rig.check()


def test_the_standing_profiles_are_secured() -> None:
    """What the harness ships is what a GB HAN asks for."""
    folder = Path(__file__).resolve().parents[2] / "device_profiles"
    assert all(yaml.safe_load(path.read_text())["secured"] for path in sorted(folder.glob("*.yaml")))
