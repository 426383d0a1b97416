"""Tests of what is drawn of a rig's journal: who spoke to whom, and what happened at whom."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness import hours
from harness.dcc.csp import CommandDown, DeviceLogDown, ImageDown, Logged, LostOnTheWan, Up
from harness.dcc.interface import Alerted
from harness.evidence.capture import KEY_FILE_NAME
from harness.evidence.diagram import Arrow, Note, Step, as_mermaid, lifelines
from harness.evidence.journal import Entry
from harness.members.bridge_values import BridgeFailed
from harness.members.device_log import DeviceLogChanged, EntryAdded
from harness.members.firmware_values import ActivationBegun, ActivationEnded
from harness.members.hub_values import DeliveryRefused, DeviceJoined, WanMessage
from harness.members.image_store_values import (
    DiscardCause,
    ImageDiscarded,
    ImageExpired,
    ImageRefused,
    RefusalReason,
)
from harness.members.kinds import DeviceKind
from harness.members.reads import ReadFailed
from harness.members.tunnels import MessageReceived
from harness.radio.runner import DeliveryFailed
from harness.rig.arrows import WAN, Parties, sequence_of
from harness.rig.bench import CAPTURE_NAME
from harness.rig.images import make_image
from harness.rig.nouns import PowerCut, PowerRestored
from harness.rig.open import JOURNAL_NAME, Rig
from harness.rig.schema import load_rig
from harness.rig.wan import CommandDelivered, ImageDelivered
from harness.smi.alerts import CSPFirmwareDeliveryStatus, DeviceSuspended
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage
from harness.wire.cbke_values import KeyEstablished
from harness.wire.gbcs import build_message
from harness.wire.gbcs_names import FIRMWARE_TRANSFER_FAILED
from harness.wire.gbcs_payloads import (
    ActivateFirmware,
    ActivateImageResponse,
    ExecutionOutcome,
    FirmwareTransfer,
    TransferResponse,
    message_of,
)
from harness.wire.ota_client_values import DownloadStarted
from harness.wire.ota_server_values import (
    ImageQueried,
    ImageWithdrawn,
    TransferCompleted,
    TransferStarted,
    UpgradeEnded,
)
from harness.wire.package import Bridge
from harness.wire.tunnel import TunnelOpened
from harness.wire.tunnel_messages import TRANSFER_DATA_TO_SERVER, TUNNELING_CLUSTER
from tests.unit.dcc_rigs import on_rig, run_unheard

RIGS = Path(__file__).resolve().parents[2] / "rigs"
HUB, GSME, B1, B3, SUPPLIER = 0x0A00, 0x0A01, 0x0A02, 0x0A03, 0x90B3
PARTIES = Parties(
    names={GSME: "gsme", HUB: "hub", B1: "b1", B3: "b3"},
    hub="hub",
    shorts={"b1": 0x1111},
    fed_by={"b3": "b1"},
)
V1, V2 = 0x01000001, 0x01000002


def drawn(*events, parties=PARTIES):
    """The steps of events of one member each, a second apart: pairs of a member's name and an event."""
    return sequence_of([Entry(float(at), *pair) for at, pair in enumerate(events)], parties)


def rows(*events, parties=PARTIES):
    """Those steps for short: who, to whom (None: a note), what, what kind."""
    steps, _ = drawn(*events, parties=parties)
    return [
        (step.source, step.target, step.text, step.kind)
        if isinstance(step, Arrow)
        else (step.party, None, step.text, step.kind)
        for step in steps
    ]


def test_an_image_goes_from_the_wan_through_the_hub_to_its_device():
    """Delivery, query, blocks and end are arrows between those whose they are; the hub's answer is in the query's."""
    assert rows(
        ("hub", ImageDelivered(B1, V1, 4186)),
        ("hub", ImageQueried(B1, 0x121D, 0x91, 0x01000000, 0x1111, 0)),
        ("hub", TransferStarted(B1, V1, 0, 4186)),
        ("hub", TransferCompleted(B1, V1)),
        ("hub", UpgradeEnded(B1, 0x121D, 0x91, V1, 0x96)),
    ) == [
        (WAN, "hub", "delivers 0x01000001 for b1, 4186 octets", "image"),
        ("b1", "hub", "Query Next Image, runs 0x01000000: SUCCESS", "image"),
        ("b1", "hub", "Image Block Requests: 0x01000001 from 0 of 4186 octets", "image"),
        ("hub", "b1", "blocks: the whole of 0x01000001", "image"),
        ("b1", "hub", "Upgrade End Request for 0x01000001: INVALID_IMAGE (0x96)", "failure"),
    ]


def test_a_fed_bridge_speaks_to_its_feeder():
    """Whose OTA server it was is the entry's member: the hub, or the bridge that feeds."""
    assert rows(
        ("b1", ImageQueried(B3, 0x121D, 0x93, V1, 0x1111, 0x98)),
        ("b1", BridgeFailed(Bridge.B3, V2, "no answer")),
    ) == [
        ("b3", "b1", "Query Next Image, runs 0x01000001: NO_IMAGE_AVAILABLE (0x98)", "image"),
        ("b1", None, "B3 does not run 0x01000002: no answer", "failure"),
    ]


def test_a_server_by_equipment_is_drawn_from_what_its_client_says():
    """A download that both sides tell of is drawn once; of a server that is mute its client tells."""
    event = ("b3", DownloadStarted(V1, 1024, 0))
    assert rows(event) == []
    mute = Parties(PARTIES.names, "hub", fed_by=PARTIES.fed_by, silent=frozenset({"b1"}))
    assert rows(event, parties=mute) == [
        ("b3", "b1", "Image Block Requests: 0x01000001 from 0 of 1024 octets", "image")
    ]


def test_what_becomes_of_a_waiting_image_is_a_note_over_the_hub():
    """Overwritten by whose, refused why, expired; that its offer is withdrawn with it is not said twice."""
    assert rows(
        ("hub", ImageDiscarded(B1, V1, DiscardCause.OVERWRITTEN, by=GSME, offset=224)),
        ("hub", ImageWithdrawn(B1, V1, 224)),
        ("hub", ImageRefused(B1, None, RefusalReason.TOO_LARGE, "it is too large")),
        ("hub", ImageExpired(GSME, V2)),
        ("hub", DeliveryRefused(B1, "b1 is not in the Device Log")),
    ) == [
        ("hub", None, "0x01000001 for b1: overwritten by that for gsme, 224 octets into its transfer", "failure"),
        ("hub", None, "refuses an image for b1: it is too large", "failure"),
        ("hub", None, "0x01000002 for gsme: expired", "failure"),
        ("hub", None, "refuses it: b1 is not in the Device Log", "failure"),
    ]  # fmt: skip


def test_a_command_goes_down_in_two_steps_and_its_alert_up():
    """CS06 reaches the hub, then its device; CCS08 says whose image it is about, and is red where it failed."""
    command = message_of(
        ActivateFirmware(bytes(32), 7, datetime(2026, 1, 1, 3, tzinfo=UTC)),
        originator=SUPPLIER, recipient=GSME, originator_counter=7,
    )  # fmt: skip
    alert = message_of(
        FirmwareTransfer(
            FIRMWARE_TRANSFER_FAILED, datetime(2026, 1, 1, tzinfo=UTC), B1, V1, TransferResponse.IMAGE_DISCARDED
        ),
        originator=HUB, recipient=SUPPLIER, originator_counter=1,
    )  # fmt: skip
    octets = build_message(command)
    said = "CS06 Activate Firmware: at 2026-01-01 03:00:00"
    assert rows(
        ("hub", CommandDelivered(GSME, octets)),
        ("gsme", MessageReceived(HUB, octets)),
        ("hub", WanMessage(HUB, build_message(alert))),
        ("hub", WanMessage(GSME, b"\x00")),
    )[:3] == [
        (WAN, "hub", f"{said}, for gsme", "message"),
        ("hub", "gsme", said, "message"),
        ("hub", WAN, "CCS08 Firmware Transfer Alert: 0x8f89, b1, 0x01000001, IMAGE_DISCARDED", "failure"),
    ]


def test_a_command_that_does_not_arrive_is_a_lost_arrow():
    """What the hub put in a tunnel and nobody acknowledged ends in a cross before its device: a lost SR11.3."""
    command = message_of(
        ActivateFirmware(bytes(32), 7), originator=SUPPLIER, recipient=B1, originator_counter=7
    )
    data = bytes((0x11, 0x0A, TRANSFER_DATA_TO_SERVER, 1, 0)) + build_message(command)
    sent = ApsMessage(0x1111, SMART_ENERGY_PROFILE, TUNNELING_CLUSTER, 1, 1, data)
    assert rows(("hub", DeliveryFailed(sent, "no route"))) == [
        ("hub", "b1", "CS06 Activate Firmware", "lost")
    ]


def test_what_the_wan_loses_is_a_lost_arrow_and_a_dcc_alert_a_note_over_it():
    """A lost response to SR11.3, image, command and SR8.11 both ways, as the DCC journals them; then N28 and N61."""
    response = message_of(
        ExecutionOutcome(ActivateImageResponse.SUCCESS, V2),
        originator=GSME, recipient=SUPPLIER, originator_counter=7,
    )  # fmt: skip
    command = message_of(
        ActivateFirmware(bytes(32), 7), originator=SUPPLIER, recipient=GSME, originator_counter=7
    )
    assert rows(
        ("dcc", LostOnTheWan(Up(GSME, build_message(response)), named=True)),
        ("dcc", LostOnTheWan(Logged(1, B1, None), named=False)),
        ("dcc", LostOnTheWan(ImageDown(1, B1, b"image"), named=True)),
        ("dcc", LostOnTheWan(CommandDown(1, GSME, build_message(command)), named=True)),
        ("dcc", LostOnTheWan(DeviceLogDown(1, B3, add=True), named=False)),
        ("dcc", Alerted(0.0, DeviceSuspended(GSME))),
        ("dcc", Alerted(0.0, CSPFirmwareDeliveryStatus("r1", HUB, B1, V2, delivered=False))),
    ) == [
        (
            "hub",
            WAN,
            "CS06 Activate Firmware Response: 0x01000002, SUCCESS, of gsme: lost on the WAN",
            "lost",
        ),
        ("hub", WAN, "answer to SR8.11, of b1: lost on the WAN", "lost"),
        (WAN, "hub", "an image for b1: lost on the WAN", "lost"),
        (WAN, "hub", "CS06 Activate Firmware, for gsme: lost on the WAN", "lost"),
        (WAN, "hub", "SR8.11 about b3: lost on the WAN", "lost"),
        (WAN, None, "DCC Alert N28 DeviceSuspended: gsme", "message"),
        (WAN, None, "DCC Alert N61 CSPFirmwareDeliveryStatus: b1", "message"),
    ]


def test_a_response_that_the_wan_of_a_rig_loses_is_in_its_picture():
    """SR11.3 on an emulated rig, its response lost: the arrow to the WAN has its cross, and Suspended is said."""

    async def work(rig: Rig) -> tuple[list[Step], list[str]]:
        await run_unheard(rig, rig.device("esme"))
        return rig.sequence()

    steps, parties = on_rig(work)
    lost = [step for step in steps if step.kind == "lost"]
    assert [(step.source, step.target) for step in lost if isinstance(step, Arrow)] == [("hub", WAN)]
    assert lost[0].text.startswith("CS06 Activate Firmware Response: ")
    assert lost[0].text.endswith("SUCCESS, of esme: lost on the WAN")
    notes = [step.text for step in steps if isinstance(step, Note) and step.party == WAN]
    assert notes.count("DCC Alert N28 DeviceSuspended: esme") == 1
    assert "dcc" not in parties


def test_what_is_no_gbcs_message_is_drawn_as_such():
    """Octets that nobody can read went up all the same, from the device and from the hub."""
    (one, other) = rows(("hub", WanMessage(GSME, b"\x00")))
    assert one[:2] == ("gsme", "hub")
    assert other[:2] == ("hub", WAN)
    assert one[2].startswith("1 octets that are no GBCS message")


def test_joining_and_keys_are_arrows_and_announcing_itself_again_is_not():
    """Who was admitted joins; who restarts or had no power is back; any other announcement is upkeep."""
    assert rows(
        ("hub", EntryAdded(B1, DeviceKind.BRIDGE)),
        ("hub", DeviceLogChanged()),
        ("hub", DeviceJoined(B1, 0x1234)),
        ("hub", KeyEstablished(B1, bytes(16), 2, False)),
        ("b1", KeyEstablished(HUB, bytes(16), 2, True)),
        ("hub", DeviceJoined(B1, 0x1234)),
        ("b1", ActivationBegun(V1)),
        ("b1", ActivationEnded(V1, 0x01000000, ActivateImageResponse.ACTIVATION_FAILURE)),
        ("hub", DeviceJoined(B1, 0x4321)),
        ("hub", ReadFailed(0x4321, 0x19, 2, 1, "no answer")),
    ) == [
        (WAN, "hub", "add b1 (bridge) to the Device Log (CCS01)", "join"),
        ("b1", "hub", "joins as 0x1234", "join"),
        ("b1", "hub", "establishes a link key (CBKE, suite 2)", "join"),
        ("b1", None, "restarts to run 0x01000001", "message"),
        ("b1", None, "runs 0x01000000, not 0x01000001: ACTIVATION_FAILURE", "failure"),
        ("b1", "hub", "is back as 0x4321", "join"),
        ("hub", "b1", "read: no answer", "lost"),
    ]


def test_power_is_a_note_when_it_goes_and_when_it_comes_back():
    """That the bench gives power to begin with is not drawn."""
    notes = rows(("b1", PowerRestored()), ("b1", PowerCut()), ("b1", PowerRestored()))
    assert [(at, text) for at, _, text, _ in notes] == [
        ("b1", "power off"),
        ("b1", "power on"),
    ]  # fmt: skip


def test_an_error_inside_a_member_is_in_the_picture():
    """What broke in the bench itself is a note over the member where it did."""
    assert rows(("b1", ValueError("odd"))) == [("b1", None, "ValueError: odd", "failure")]


def test_who_takes_no_part_has_no_lifeline_and_a_stranger_has_one():
    """Lifelines are the WAN's, the hub's and the others' in the order of the rig, then strangers' by EUI-64."""
    steps, parties = drawn(
        ("hub", ImageQueried(0xFF, 1, 2, V1, None, 0x98)),
        ("hub", TunnelOpened(GSME, 0, 1500)),
        ("hub", ImageQueried(B1, 1, 2, V1, None, 0x98)),
    )
    assert parties == ["hub", "b1", "00-00-00-00-00-00-00-FF"]
    assert lifelines(steps, parties) == parties


@pytest.mark.virtual_time
async def test_a_run_of_option_b_yields_its_diagram(tmp_path: Path) -> None:
    """AH-16: the diagram has the order of the journal, names every party, and follows the one package to its end."""
    rig = Rig(load_rig(RIGS / "emulated-option-b.yaml"), evidence=tmp_path)
    async with rig:
        for name in ("b1", "b2", "b3", "b4"):
            await rig.joined(name)
        b1 = rig.device("b1")
        package = make_image(random.Random(7))(target=b1, size=512)
        await rig.hub.wan.deliver(package, to=b1)
        await b1.until(running=package.version, within=hours(3))
    steps, parties = rig.sequence()
    assert parties == [WAN, "hub", "b1", "b2", "b3", "b4"]
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)
    # Each step stands where an entry of its time stands in the journal.
    times = [entry.seconds for entry in rig.journal]
    assert {step.seconds for step in steps} <= set(times)
    told = iter(
        (step.source, step.target) if isinstance(step, Arrow) else (step.party, step.text.split(" 0x")[0])
        for step in steps
        if isinstance(step, Note) or "delivers" in step.text or "CS09" in step.text
    )
    for wanted in (
        (WAN, "hub"),
        ("hub", "keeps"),
        ("b1", "holds"),
        ("b1", "feeds"),
        ("b4", "holds"),
        ("b1", "has fed"),
        ("b1", "runs"),
        ("b1", "hub"),
        ("hub", WAN),
    ):
        assert wanted in told, f"{wanted} comes in its turn"
    feeding = {
        (step.source, step.target) for step in steps if isinstance(step, Arrow) and "Block" in step.text
    }
    assert feeding == {("b1", "hub"), ("b2", "b1"), ("b3", "b1"), ("b4", "b1")}
    assert (tmp_path / JOURNAL_NAME).exists()
    svg = ElementTree.parse(tmp_path / "sequence.svg").getroot()
    named = [
        text.text for text in svg.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"
    ]
    assert named == parties * 2
    head, *lines = (tmp_path / "sequence.txt").read_text().splitlines()
    assert head.split() == parties
    assert all(len(line) <= 120 for line in lines)
    assert (tmp_path / "sequence.mmd").read_text() == as_mermaid(steps, parties)


@pytest.mark.virtual_time
async def test_a_run_in_which_nothing_happens_has_no_diagram(tmp_path: Path) -> None:
    """An empty picture is no evidence: the journal alone is left."""
    async with Rig(load_rig(RIGS / "emulated-option-b.yaml"), evidence=tmp_path):
        pass
    assert sorted(path.name for path in os.scandir(tmp_path)) == [CAPTURE_NAME, JOURNAL_NAME, KEY_FILE_NAME]


def test_upkeep_is_not_drawn():
    """Tunnels, keep-alives and retries of the network are in the journal, not in the picture."""
    assert rows(("hub", TunnelOpened(B1, 0, 1500)), ("hub", DeviceLogChanged())) == []
    keep_alive = ApsMessage(0x1111, SMART_ENERGY_PROFILE, TUNNELING_CLUSTER, 1, 1, bytes.fromhex("110a00"))
    assert rows(("hub", DeliveryFailed(keep_alive, "no route"))) == []
