"""The meters on a HAN with certificates: what becomes of an image, of CS06, and what a sleepy GSME learns when."""

from __future__ import annotations

import pytest

from harness.errors import LocalProtocolError
from harness.members.device_values import DeviceFlash
from harness.members.firmware_values import (
    UNSTARTABLE,
    ActivationEnded,
    CommandRefused,
    ImageHeld,
    ImageRejected,
)
from harness.members.hub import AttributeRead, ReadFailed
from harness.members.hub_values import CommandNotRetrieved
from harness.members.meter import METERING_DEVICE
from harness.members.tunnels import MessageReceived
from harness.wire import clusters
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage
from harness.wire.gbcs_payloads import (
    NEVER,
    CommandAccepted,
    EsmeFirmwareVersion,
    ExecutionOutcome,
    FutureDatedActivation,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
)
from harness.wire.ota_client_values import (
    ClientState,
    DownloadStarted,
    OtaClientConfig,
    OtaStorage,
)
from harness.wire.tunnel import TunnelOpened
from harness.wire.tunnel_messages import TUNNELING_CLUSTER, TransferData, build_message
from tests.unit import firmware_bench
from tests.unit.firmware_bench import (
    HASH,
    IMAGE_TYPE,
    MAKER,
    NEW,
    NEWER,
    OLD,
    OTHER_KEY,
    STRANGE_HASH,
    activated,
)
from tests.unit.meter_bench import (
    FAILURE,
    METERS,
    MISMATCH,
    NO_IMAGE,
    SUCCESS,
    WAKES,
    MeterHan,
    at,
    held,
    meter,
)
from tests.unit.secured_han import ESME, GSME, HUB, SHORTS


@METERS
def test_a_meter_stores_an_image_tells_its_receipt_and_does_not_run_it(eui64):
    """FW-02: 0x8F72 with the hash of the Manufacturer Image; a day later it still runs the old version."""
    han = held(eui64)
    assert han.of(eui64, ImageHeld) == [ImageHeld(NEW, HASH)]
    han.after(24 * 3600.0)
    assert han.meter.running_version == OLD
    assert han.of(eui64, ActivationEnded) == []
    assert han.alerts() == [(0x8F72, HASH)]


@METERS
def test_cs06_runs_the_image_and_is_answered_with_the_new_version(eui64):
    """FW-02, SU-13: the response comes after the restart, with outcome 0 and the version that runs then."""
    han = held(eui64)
    han.activate()
    han.after(WAKES + 120)
    assert han.of(eui64, ActivationEnded) == [activated(NEW)]
    assert han.outcomes() == [(SUCCESS, NEW)]
    assert han.meter.running_version == NEW
    assert han.meter.flash.download == OtaStorage()


@METERS
def test_cs06_without_an_image_is_answered_so(eui64):
    """FW-03, SU-13: outcome 1 with the version that runs on."""
    han = MeterHan(eui64)
    han.activate()
    han.after(WAKES + 60)
    assert han.outcomes() == [(NO_IMAGE, OLD)]
    assert han.meter.running_version == OLD


@METERS
def test_cs06_for_another_image_is_answered_so_and_the_image_stays(eui64):
    """FW-04, SU-13: outcome 2 with the version that runs on; the right hash runs the image afterwards."""
    han = held(eui64)
    han.activate(STRANGE_HASH)
    han.after(WAKES + 60)
    assert han.outcomes() == [(MISMATCH, OLD)]
    han.activate(counter=2)
    han.after(WAKES + 120)
    assert han.outcomes() == [(MISMATCH, OLD), (SUCCESS, NEW)]


@METERS
def test_an_image_that_does_not_start_is_answered_with_the_old_version(eui64):
    """SU-13: outcome 3, and the version that runs is the old one."""
    han = MeterHan(eui64)
    image = UNSTARTABLE + b"firmware"
    han.image(firmware_bench.file(image))
    han.after(WAKES + 60)
    han.activate(firmware_bench.image_hash(image))
    han.after(WAKES + 120)
    assert han.outcomes() == [(FAILURE, OLD)]
    assert han.of(eui64, ActivationEnded) == [ActivationEnded(NEW, OLD, FAILURE)]


@METERS
def test_a_future_dated_cs06_acts_at_its_time(eui64):
    """FW-05: acknowledged at once; at its time, not before, the image runs, and 0x8F66 says so."""
    han = held(eui64)
    when = at(han, 7200.0)
    han.activate(at=when)
    han.after(7100.0)
    assert han.told[1:] == [CommandAccepted()]
    assert han.meter.running_version == OLD
    han.after(200.0)
    assert han.meter.running_version == NEW
    assert han.told[2:] == [FutureDatedActivation(0x8F66, when, 1, ExecutionOutcome(SUCCESS, NEW))]


@METERS
def test_a_future_dated_cs06_for_another_image_fails_at_its_time(eui64):
    """FW-05: acknowledged all the same, as nothing is looked at before its time; then 0x8F67 with outcome 2."""
    han = held(eui64)
    when = at(han, 3600.0)
    han.activate(STRANGE_HASH, at=when)
    han.after(3700.0)
    assert han.told[1:] == [
        CommandAccepted(),
        FutureDatedActivation(0x8F67, when, 1, ExecutionOutcome(MISMATCH, OLD)),
    ]


@METERS
def test_a_future_dated_cs06_can_be_cancelled(eui64):
    """FW-05: 99991231235959Z takes it back; its time passes, and the old version runs."""
    han = held(eui64)
    han.activate(at=at(han, 7200.0))
    han.after(WAKES + 60)
    han.activate(counter=2, at=NEVER)
    han.after(3 * 3600.0)
    assert han.told[1:] == [CommandAccepted(), CommandAccepted()]
    assert han.meter.running_version == OLD


@METERS
def test_an_image_with_a_strangers_signature_is_discarded(eui64):
    """FW-01: 0x8F1C; CS06 finds no image then."""
    han = MeterHan(eui64)
    han.image(firmware_bench.file(key=OTHER_KEY))
    han.after(WAKES + 60)
    assert [event.version for event in han.of(eui64, ImageRejected)] == [NEW]
    assert han.alerts() == [(0x8F1C, HASH)]
    assert han.meter.flash.download == OtaStorage()
    han.activate()
    han.after(WAKES + 60)
    assert han.outcomes() == [(NO_IMAGE, OLD)]


@METERS
def test_a_cs06_of_a_stranger_does_nothing(eui64):
    """The supplier's signature is what makes CS06 one: without it there is no answer, and nothing runs."""
    han = held(eui64)
    han.activate(key=OTHER_KEY)
    han.after(WAKES + 60)
    assert len(han.of(eui64, CommandRefused)) == 1
    assert han.outcomes() == []
    assert han.meter.running_version == OLD


@METERS
def test_a_meter_that_waits_with_an_image_takes_a_newer_one(eui64):
    """The second image takes the first one's place: CS06 for the first finds the wrong hash, for the second runs it."""
    han = held(eui64)
    second = firmware_bench.file(b"another", NEWER)
    han.image(second)
    han.after(WAKES + 60)
    assert han.alerts() == [(0x8F72, HASH), (0x8F72, STRANGE_HASH)]
    han.activate()
    han.activate(STRANGE_HASH, counter=2)
    han.after(WAKES + 180)
    assert han.outcomes() == [(MISMATCH, OLD), (SUCCESS, NEWER)]


def test_the_hub_reads_the_version_of_an_esme():
    """ECS52 through the hub's tunnel; the ESME is its server."""
    han = held(ESME)
    han.command(firmware_bench.command(ReadEsmeFirmwareVersion(7), recipient=ESME))
    han.after(5.0)
    assert [it.version for it in han.told if isinstance(it, EsmeFirmwareVersion)] == [OLD]


def test_a_gsme_answers_for_its_own_version_at_its_next_wake_up():
    """SU-07: GCS38 waits for the GSME's GET, and the answer is the GSME's own word."""
    han = held(GSME)
    han.activate()
    han.after(WAKES + 120)
    han.command(firmware_bench.command(ReadGsmeFirmwareVersion(), counter=2, recipient=GSME))
    han.after(WAKES + 60)
    assert [it.version for it in han.told if isinstance(it, GsmeFirmwareVersion)] == [NEW]


# --- the sleepy GSME ------------------------------------------------------------------------------------------


def wake_ups(han):
    """When the GSME read its flags, and what they were."""
    return [
        (when, event.value)
        for when, who, event in han.events
        if who == GSME and isinstance(event, AttributeRead) and event.cluster == clusters.METERING_CLUSTER
    ]


def test_a_gsme_learns_of_its_image_at_its_wake_up_and_not_before():
    """FW-16: bit 0 of the flags at the wake-up after the delivery; until then the GSME has asked for nothing."""
    han = MeterHan(GSME)
    ((start, flags),) = wake_ups(han)
    assert (start < 10.0, flags, han.queries()) == (True, 0, 0)
    han.after(500.0)
    han.image()
    han.run(start + WAKES - 1.0)
    assert (len(wake_ups(han)), han.queries(), han.of(GSME, DownloadStarted)) == (1, 0, [])
    han.run(start + WAKES + 10.0)
    assert [flags for _, flags in wake_ups(han)] == [0, clusters.NEW_OTA_FIRMWARE]
    assert (han.queries(), len(han.of(GSME, DownloadStarted))) == (1, 1)
    (started,) = [when for when, _, event in han.events if isinstance(event, DownloadStarted)]
    assert started - wake_ups(han)[1][0] < 0.1
    assert han.alerts() == [(0x8F72, HASH)]
    han.run(start + 2 * WAKES + 10.0)
    assert wake_ups(han)[-1][1] == 0
    assert han.queries() == 1


def test_a_gsme_fetches_all_its_messages_one_get_after_the_other():
    """Bit 21 of the flags; GET-RESPONSE says how many remain, and the GSME asks until there are none."""
    han = held(GSME)
    for counter in (1, 2, 3):
        han.command(firmware_bench.command(ReadGsmeFirmwareVersion(), counter=counter, recipient=GSME))
    before = len(wake_ups(han))
    han.after(WAKES + 10)
    assert wake_ups(han)[before][1] == clusters.TUNNEL_MESSAGE_PENDING
    assert len(han.of(GSME, MessageReceived)) == 3
    assert len([it for it in han.told if isinstance(it, GsmeFirmwareVersion)]) == 3
    han.after(WAKES)
    assert wake_ups(han)[-1][1] == 0


def test_a_gsme_opens_the_one_tunnel_itself():
    """JN-04: the hub grants it; a GSME is no Tunneling server, and its hub asks it for none."""
    han = MeterHan(GSME)
    (descriptor,) = han.meter.descriptors
    assert descriptor.device == METERING_DEVICE
    assert TUNNELING_CLUSTER in descriptor.client_clusters
    assert TUNNELING_CLUSTER not in descriptor.server_clusters
    assert len(han.of(GSME, TunnelOpened)) == 1
    assert not any(sender == HUB and message.cluster == 0x0006 for sender, message in han.sent)


def test_a_gsme_that_finds_no_hub_reads_its_flags_at_the_next_wake_up():
    """A lost answer costs one interval: the read fails, and the next one is in time."""
    han = MeterHan(GSME)
    han.image()
    han.lose = lambda sender, message: message.cluster == clusters.METERING_CLUSTER
    han.after(WAKES + 60)
    assert len(han.of(GSME, ReadFailed)) == 1
    assert han.queries() == 0
    han.lose = lambda sender, message: False
    han.after(WAKES)
    assert han.alerts() == [(0x8F72, HASH)]


def test_a_gsme_goes_on_after_its_hub_has_been_without_power():
    """The hub knows of no tunnel then: what the GSME puts into it goes again, through the next one."""
    han = held(GSME)
    han.power_cut(HUB, dark=60.0)
    han.after(120.0)
    han.activate()
    han.after(2 * WAKES)
    assert han.outcomes() == [(SUCCESS, NEW)]


def test_a_message_that_no_gsme_fetches_is_thrown_away():
    """24 hours without power: the hub gives the command up (0x819D), and the GSME never sees it."""
    han = held(GSME)
    han.activate()
    han.power_cut(GSME, dark=25 * 3600.0)
    han.after(26 * 3600.0)
    assert len(han.of(HUB, CommandNotRetrieved)) == 1
    assert han.of(GSME, MessageReceived) == []
    assert han.meter.running_version == OLD


def test_a_gsme_that_finds_the_tunnels_late_opens_one_then():
    """The question about the Tunneling server is lost at first: the tunnel comes with the second, not at a wake-up."""
    han = MeterHan(GSME, settled=0.0)
    lost = []

    def lose(sender, message):
        about_tunnels = TUNNELING_CLUSTER.to_bytes(2, "little") in message.payload
        if sender == GSME and message.cluster == 0x0006 and about_tunnels and not lost:
            lost.append(message)
            return True
        return False

    han.lose = lose
    han.run(30.0)
    assert len(lost) == 1
    (opened,) = [when for when, who, event in han.events if who == GSME and isinstance(event, TunnelOpened)]
    assert wake_ups(han)[0][0] < opened < 30.0


def test_a_gsme_that_rejoins_reads_its_flags_at_once():
    """It does not know what it missed; from then on it keeps its interval."""
    han = MeterHan(GSME)
    han.after(100.0)
    han.meter.network_down(han.now)
    assert han.meter.next_deadline() is None
    han.power_on(GSME)
    rejoined = han.now
    han.after(2 * WAKES)
    assert [round(when - rejoined) for when, _ in wake_ups(han)[1:]] == [0, WAKES]


def test_what_is_no_get_response_is_refused():
    """A hub that says GET, or nothing known, is heard without harm."""
    han = MeterHan(GSME)
    for sequence, octets in enumerate((b"\x01", b"\x07abc", b"\x02")):
        transfer = TransferData(han.meter.tunnels.tunnel(HUB), octets)
        frame = build_message(transfer, sequence, from_server=True)
        han.carry(
            HUB, ApsMessage(SHORTS[GSME], SMART_ENERGY_PROFILE, TUNNELING_CLUSTER, 1, 1, frame, secured=True)
        )
    han.after(5.0)
    assert [event.reason for event in han.of(GSME, CommandRefused)] == [
        "GET is what a GSME says, not its hub",
        "header 0x07 in a GSME's tunnel is unknown",
        "GET-RESPONSE ends before its number of remaining messages",
    ]


def test_a_gsme_that_would_ask_unprompted_is_no_gsme():
    """GBCS: it is told by its flags."""
    for ota in (None, OtaClientConfig(MAKER, IMAGE_TYPE)):
        with pytest.raises(LocalProtocolError, match="unprompted"):
            meter(GSME, ota=ota)
    with pytest.raises(LocalProtocolError, match="every 0 s"):
        meter(GSME, wake_interval=0.0)


# --- what a meter serves --------------------------------------------------------------------------------------


def test_the_registers_are_read_and_the_summation_rises():
    """Metering says what it measures, Prepayment what is left; an hour is worth the configured rate."""
    han = MeterHan(ESME, summation=500, rate=2.0, prepayment=True, credit=-300)

    def read(cluster, attribute):
        han.hub.read_attribute(SHORTS[ESME], cluster, attribute, han.now)
        han.after(1.0)
        return han.of(HUB, AttributeRead)[-1].value

    assert read(clusters.METERING_CLUSTER, clusters.METERING_DEVICE_TYPE) == clusters.ELECTRIC_METERING
    assert read(clusters.PREPAYMENT_CLUSTER, clusters.PAYMENT_CONTROL_CONFIGURATION) == 2
    assert read(clusters.PREPAYMENT_CLUSTER, clusters.CREDIT_REMAINING) == -300
    assert read(clusters.METERING_CLUSTER, clusters.CURRENT_SUMMATION_DELIVERED) == 500
    han.after(3 * 3600.0)
    assert read(clusters.METERING_CLUSTER, clusters.CURRENT_SUMMATION_DELIVERED) == 506
    assert meter(GSME).measures == clusters.GAS_METERING


def test_a_meter_recalled_from_its_commissioning_needs_no_discovery():
    """`remember` and `recall`: it goes on with its hub, its key and its tunnel."""
    han = held(GSME)
    saved = han.meter.remember()
    again = meter(GSME)
    again.recall(saved)
    again.network_up(SHORTS[GSME], 0.0)
    assert again.tunnels.tunnel(HUB) == han.meter.tunnels.tunnel(HUB)
    assert [message.cluster for message in again.messages_to_send() if message.profile == 0] == []
    assert again.flash.firmware.held == han.meter.flash.firmware.held
    assert isinstance(again.flash, DeviceFlash)
    assert again.client.state is ClientState.IDLE
    assert 0.0 < again.next_deadline() <= WAKES
