"""The hub's Device Log: who is let in, with which key and until when, and what is left of those that were removed."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import LocalProtocolError
from harness.members.device_log import (
    DeviceLimits,
    DeviceLog,
    DeviceLogChanged,
    EntryAdded,
    EntryDuplicate,
    EntryRefused,
    EntryRemoved,
    HistoricEntry,
    JoinAllowed,
    JoinPeriodEnded,
    JoinResponse,
    RemovalRefused,
)
from harness.members.kinds import TYPE_1, DeviceKind
from harness.wire.security import mmo

ESME, GSME, HCALCS, PPMID, BRIDGE, IHD = DeviceKind
A, B = 0xA1, 0xB2
CODE, OTHER_CODE, TC_KEY, NEW_KEY = (bytes([octet]) * 16 for octet in (0xC0, 0xC1, 0x7C, 0x7D))
NO_HASH = b""


def log_with(*devices):
    """Return a log with devices added at time 0, for 100 seconds."""
    log = DeviceLog()
    for eui64, kind in devices:
        assert isinstance(log.add(eui64, kind, CODE, 100.0, 0.0)[0], EntryAdded)
    return log


def log_with_historic(eui64=A, kind=PPMID):
    """Return a log that a device with an established key was removed from at time 1."""
    log = log_with((eui64, kind))
    log.joined(eui64, 1.0)
    log.established(eui64, TC_KEY)
    log.remove(eui64, 1.0)
    return log


def room_for(limits, kind):
    """Return how many devices of one kind a log takes, and the refusal of the next."""
    log = DeviceLog(limits)
    for eui64 in range(100):
        event = log.add(eui64, kind, CODE, 100.0, 0.0)[0]
        if isinstance(event, EntryRefused):
            return eui64, event
    raise AssertionError(kind)


# --- adding ----------------------------------------------------------------------------------------------------------


def test_adding_a_device_lets_it_join_and_is_told():
    """CCS01: the device is in the log, the carrier is told key and seconds, and CS14 has it without a hash."""
    log = DeviceLog()
    assert log.add(A, PPMID, CODE, 100.0, 5.0) == [
        EntryAdded(A, PPMID),
        JoinAllowed(A, CODE, 100.0),
        DeviceLogChanged(),
    ]
    assert log.backup == ((A, NO_HASH),)
    assert log.kind_of(A) is PPMID
    assert log.kind_of(B) is None
    assert DeviceLogChanged().alert_code == 0x8F12


@pytest.mark.parametrize(
    ("now", "told"),
    [(5.0, []), (104.9, []), (105.0, [JoinPeriodEnded(A)]), (1e6, [JoinPeriodEnded(A)])],
    ids=lambda value: str(value)[:6],
)
def test_a_device_joins_only_while_its_period_runs(now, told):
    """JN-01: the install code's key counts from the adding on, and not at the period's end."""
    log = DeviceLog()
    log.add(A, PPMID, CODE, 100.0, 5.0)
    assert log.on_deadline(now) == told


def test_the_end_of_a_period_is_told_once():
    """The carrier forgets the key of a device that has not come."""
    log = log_with((A, PPMID), (B, ESME))
    log.joined(B, 50.0)
    assert log.next_deadline() == 100.0
    assert log.on_deadline(99.0) == []
    assert log.on_deadline(100.0) == [JoinPeriodEnded(A)]
    assert log.next_deadline() is None
    assert log.on_deadline(200.0) == []
    assert [entry.eui64 for entry in log.entries] == [A, B]


def test_a_duplicate_is_a_success_and_its_key_is_discarded():
    """CCS01: the key of the first adding stays; there is no CS14, as nothing changed. Assumed: the period runs anew."""
    log = log_with((A, PPMID))
    assert log.add(A, PPMID, OTHER_CODE, 60.0, 90.0) == [EntryDuplicate(A, PPMID), JoinAllowed(A, CODE, 60.0)]
    assert log.on_deadline(149.0) == []
    assert log.on_deadline(150.0) == [JoinPeriodEnded(A)]
    assert log.add(A, IHD, OTHER_CODE, 60.0, 500.0) == [
        EntryDuplicate(A, PPMID),
        JoinAllowed(A, CODE, 60.0),
    ]


@pytest.mark.parametrize(("keyed", "gone"), [(False, False), (True, False), (True, True)])
def test_a_duplicate_of_a_member_does_not_touch_its_key(keyed, gone):
    """CCS01: no link key that the hub holds is affected, so the carrier is asked for nothing, be it away or not."""
    log = log_with((A, PPMID))
    log.joined(A, 1.0)
    if keyed:
        log.established(A, TC_KEY)
    if gone:
        log.left(A, 2.0)
    before = log.entries
    assert log.add(A, PPMID, OTHER_CODE, 60.0, 90.0) == [EntryDuplicate(A, PPMID)]
    assert log.entries == before


def test_a_duplicate_finds_room_in_a_full_log():
    """A device that is there takes no second entry."""
    log = log_with((A, GSME))
    assert isinstance(log.add(B, GSME, CODE, 60.0, 1.0)[0], EntryRefused)
    assert isinstance(log.add(A, GSME, CODE, 60.0, 1.0)[0], EntryDuplicate)


@pytest.mark.parametrize("period", [0, -1.0, 3600.5, float("nan"), float("inf")])
def test_a_period_that_the_service_request_cannot_give_is_our_error(period):
    """SR8.11: JoinTimePeriod is at most 3600 seconds."""
    log = DeviceLog()
    with pytest.raises(LocalProtocolError, match="join period"):
        log.add(A, PPMID, CODE, period, 0.0)
    assert log.entries == ()
    assert isinstance(log.add(A, PPMID, CODE, 3600, 0.0)[0], EntryAdded)


def test_what_is_no_key_and_no_eui64_is_our_error():
    """A broken call leaves nothing behind, and prints no key."""
    log = log_with((A, PPMID))
    before = log.entries
    for call in (
        lambda: log.add(B, PPMID, b"secret", 60.0, 0.0),
        lambda: log.established(A, b"secret"),
        lambda: log.add(1 << 64, PPMID, CODE, 60.0, 0.0),
        lambda: log.add(-1, PPMID, CODE, 60.0, 0.0),
    ):
        with pytest.raises(LocalProtocolError) as caught:
            call()
        assert "secret" not in str(caught.value)
    assert log.entries == before


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "room"), [(ESME, 4), (GSME, 1), (HCALCS, 7), (PPMID, 7), (BRIDGE, 7), (IHD, 3)]
)
def test_each_kind_has_the_room_of_chts(kind, room):
    """CHTS 4.4.2.1 of 2014; one more is refused with deviceLogFull and a sentence that has the number."""
    held, refused = room_for(DeviceLimits(), kind)
    assert held == room
    assert refused.response is JoinResponse.DEVICE_LOG_FULL == 4
    assert f"has room for {room}" in refused.detail


def test_bridges_use_up_the_type_1_devices():
    """AH-14: PPMIDs, HCALCSs and bridges share the seven; a refusal changes nothing and is no CS14."""
    kinds = [BRIDGE, BRIDGE, BRIDGE, BRIDGE, PPMID, HCALCS, PPMID]
    log = log_with(*enumerate(kinds))
    before = log.entries
    for kind in TYPE_1:
        events = log.add(0xFF, kind, CODE, 100.0, 0.0)
        detail = "the Device Log holds 7 Type 1 devices, and has room for 7"
        assert events == [EntryRefused(0xFF, kind, JoinResponse.DEVICE_LOG_FULL, detail)]
    assert log.entries == before
    log.remove(0, 1.0)
    assert isinstance(log.add(0xFF, HCALCS, CODE, 100.0, 2.0)[0], EntryAdded)


def test_a_hub_may_keep_room_for_two_ppmids_only():
    """F6: CHTS promises two PPMIDs among the seven, and four bridges and a PPMID are five."""
    limits = DeviceLimits(ppmid=2)
    assert room_for(limits, BRIDGE)[0] == room_for(limits, PPMID)[0] == 2
    assert "PPMIDs" in room_for(limits, PPMID)[1].detail
    assert room_for(limits, HCALCS)[0] == 7


@pytest.mark.parametrize(("gpf", "room"), [(True, 15), (False, 16)])
def test_the_gpf_may_take_one_of_sixteen_entries(gpf, room):
    """Assumed of the GPF: with it the default limits of each kind are 16 together."""
    held, refused = room_for(DeviceLimits(esme=20, gpf_takes_entry=gpf), ESME)
    assert held == room
    assert refused.detail == f"the Device Log holds {room} devices, and has room for {room}"


# --- removing, and coming back ---------------------------------------------------------------------------------------


def test_removing_a_device_keeps_its_established_key_in_the_historic_log():
    """CCS02, and CS14 without the device."""
    log = log_with((A, PPMID), (B, ESME))
    log.joined(A, 1.0)
    log.established(A, TC_KEY)
    assert log.remove(A, 7.0) == [EntryRemoved(A, PPMID), DeviceLogChanged()]
    assert log.backup == ((B, NO_HASH),)
    assert log.historic == (HistoricEntry(A, TC_KEY, 7.0),)
    assert log.kind_of(A) is None


def test_removing_a_device_without_an_established_key_keeps_nothing():
    """CCS02: only where a link key was established; the key of an install code is none."""
    log = log_with((A, PPMID))
    log.joined(A, 1.0)
    log.remove(A, 2.0)
    assert log.historic == ()
    assert log.next_deadline() is None


def test_removing_a_device_that_is_not_there_changes_nothing():
    """A second removal finds no device, and is no change of the log."""
    log = log_with_historic()
    before = log.snapshot()
    assert log.remove(A, 9.0) == [RemovalRefused(A)]
    assert log.snapshot() == before


def test_the_sixteenth_historic_device_overwrites_the_oldest():
    """CCS02: 15 entries. A device that is removed again is the youngest (assumed), and is there once."""
    log = DeviceLog()
    for eui64 in [*range(15), 0, 15]:
        log.add(eui64, ESME, CODE, 100.0, 0.0)
        log.established(eui64, NEW_KEY if log.historic else TC_KEY)
        log.remove(eui64, float(eui64))
    assert [record.eui64 for record in log.historic] == [*range(2, 15), 0, 15]
    assert {record.eui64: record.link_key for record in log.historic}[0] == NEW_KEY


def test_a_historic_device_joins_with_its_old_key_in_the_first_half():
    """CCS01: first the historic key, from half time on the key of the new install code; the carrier is told both."""
    log = log_with_historic()
    assert log.add(A, PPMID, OTHER_CODE, 100.0, 10.0) == [
        EntryAdded(A, PPMID),
        JoinAllowed(A, TC_KEY, 50.0),
        DeviceLogChanged(),
    ]
    assert log.backup == ((A, NO_HASH),)
    assert log.next_deadline() == 60.0
    assert log.on_deadline(59.9) == []
    assert log.on_deadline(60.0) == [JoinAllowed(A, OTHER_CODE, 50.0)]
    assert log.next_deadline() == 110.0
    assert log.on_deadline(110.0) == [JoinPeriodEnded(A)]


def test_a_clock_that_comes_late_ends_both_halves_at_once():
    """What is over is not offered any more."""
    log = log_with_historic()
    log.add(A, PPMID, OTHER_CODE, 100.0, 10.0)
    assert log.on_deadline(300.0) == [JoinPeriodEnded(A)]


def test_a_historic_device_that_comes_back_has_its_old_key_again():
    """CCS01: the historic key is recorded against the device, which CS14 tells with its hash."""
    log = log_with_historic()
    log.add(A, PPMID, OTHER_CODE, 100.0, 10.0)
    assert log.joined(A, 20.0) == [DeviceLogChanged()]
    assert log.backup == ((A, mmo(TC_KEY)),)
    assert (log.entries[0].tc_key, log.entries[0].historic_key) == (TC_KEY, None)
    assert log.next_deadline() is None
    assert log.on_deadline(300.0) == []


def test_a_historic_device_that_comes_in_the_second_half_has_no_key_yet():
    """CCS01: it joined with its install code; CBKE gives it a link key."""
    log = log_with_historic()
    log.add(A, PPMID, OTHER_CODE, 100.0, 10.0)
    assert log.joined(A, 60.0) == []  # on_deadline need not have come first
    assert (log.entries[0].tc_key, log.entries[0].historic_key) == (None, None)
    assert log.established(A, NEW_KEY) == [DeviceLogChanged()]
    assert log.backup == ((A, mmo(NEW_KEY)),)


def test_the_historic_key_outlives_its_record():
    """15 other removals within the period do not take the key from a device that may join with it."""
    log = log_with_historic()
    log.add(A, PPMID, OTHER_CODE, 3600.0, 10.0)
    for eui64 in range(15):
        log.add(eui64, ESME, CODE, 100.0, 11.0)
        log.established(eui64, NEW_KEY)
        log.remove(eui64, 12.0)
    assert A not in [record.eui64 for record in log.historic]
    assert log.restore(log.snapshot(), 13.0)[0] == JoinAllowed(A, TC_KEY, 1797.0)


# --- members and their keys ------------------------------------------------------------------------------------------


def test_an_established_key_takes_the_place_of_the_install_code():
    """JN-02: CS14 tells the hash of each new key; who has a key joins no more with the install code."""
    log = log_with((A, PPMID))
    assert log.joined(A, 1.0) == []
    assert log.established(A, TC_KEY) == [DeviceLogChanged()]
    assert log.backup == ((A, mmo(TC_KEY)),)
    assert log.established(A, TC_KEY) == []  # the hash did not change
    assert log.established(A, NEW_KEY) == [DeviceLogChanged()]
    assert log.backup == ((A, mmo(NEW_KEY)),)
    assert log.left(A, 3.0) == []
    assert log.next_deadline() is None


def test_a_rejected_key_gives_its_place_back():
    """The key before the last one counts again, once; with none before it the device joins again in its period."""
    log = log_with((A, PPMID))
    log.joined(A, 1.0)
    log.established(A, TC_KEY)
    log.established(A, NEW_KEY)
    assert log.rejected(A, 2.0) == [DeviceLogChanged()]
    assert log.backup == ((A, mmo(TC_KEY)),)
    assert log.rejected(A, 2.0) == []
    log = log_with((B, PPMID))
    log.joined(B, 1.0)
    log.established(B, TC_KEY)
    log.left(B, 2.0)
    assert log.rejected(B, 3.0) == [DeviceLogChanged(), JoinAllowed(B, CODE, 97.0)]
    assert log.backup == ((B, NO_HASH),)


def test_a_rejected_key_that_was_the_one_before_changes_no_hash():
    """CS14 is for a hash that changes."""
    log = log_with((A, PPMID))
    log.joined(A, 1.0)
    log.established(A, TC_KEY)
    log.established(A, TC_KEY)
    assert log.rejected(A, 2.0) == []
    assert log.entries[0].tc_key == TC_KEY


def test_no_key_is_taken_back_past_a_removal_or_a_power_cut():
    """What came before them is not what the device and the hub agree on now."""
    log = log_with((A, PPMID), (B, PPMID))
    log.established(A, TC_KEY)
    log.established(B, TC_KEY)
    log.remove(A, 1.0)
    log.add(A, PPMID, CODE, 100.0, 2.0)
    assert log.rejected(A, 3.0) == []
    log.restore(log.snapshot(), 4.0)
    assert log.rejected(B, 5.0) == []
    assert log.entries[0].tc_key == TC_KEY


def test_a_device_with_a_key_waits_for_nothing():
    """An established key ends the waiting, and the historic key's too, even before the carrier says who joined."""
    log = log_with_historic()
    log.add(A, PPMID, OTHER_CODE, 100.0, 10.0)
    log.established(A, NEW_KEY)
    assert log.next_deadline() is None
    assert log.on_deadline(300.0) == []
    assert (log.entries[0].historic_key, log.entries[0].historic_until) == (None, None)


def test_a_device_that_leaves_without_a_key_joins_again_while_its_period_runs():
    """JN-01: the carrier gets the rest of the period, and is to forget the key once there is no rest."""
    log = log_with((A, PPMID), (B, PPMID))
    log.joined(A, 1.0)
    log.joined(B, 1.0)
    assert log.left(A, 40.0) == [JoinAllowed(A, CODE, 60.0)]
    assert log.left(A, 41.0) == []
    assert log.left(B, 100.0) == [JoinPeriodEnded(B)]
    assert log.on_deadline(100.0) == [JoinPeriodEnded(A)]


def test_a_stranger_changes_nothing():
    """What is not in the log is not brought in by the HAN."""
    log = log_with((A, PPMID))
    before = log.snapshot()
    assert log.joined(B, 1.0) == log.left(B, 1.0) == log.established(B, TC_KEY) == log.rejected(B, 1.0) == []
    assert log.snapshot() == before


def test_no_key_is_printed():
    """Neither entries, records nor events show a key or a hash."""
    log = log_with_historic()
    events = log.add(A, PPMID, OTHER_CODE, 100.0, 10.0) + log.joined(A, 11.0)
    printed = repr((events, log.entries, log.historic, log_with((A, PPMID)).entries))
    for secret in (CODE, OTHER_CODE, TC_KEY, mmo(TC_KEY)):
        assert repr(secret) not in printed
        assert secret.hex() not in printed


def test_the_values_cannot_be_changed():
    """Who reads the log does not write it."""
    for value in (DeviceLimits(), log_with((A, PPMID)).entries[0], log_with_historic().historic[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, 0)
