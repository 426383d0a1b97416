"""The hub's Device Log over a power cut, and through any sequence: what is broken, what is too much, what is over."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.members.device_log import (
    DeviceLimits,
    DeviceLog,
    DeviceLogChanged,
    EntryRefused,
    EntryRemoved,
    JoinAllowed,
    JoinPeriodEnded,
)
from harness.members.kinds import TYPE_1, TYPE_2, DeviceKind
from harness.wire.security import mmo

ESME, GSME, HCALCS, PPMID, BRIDGE, IHD = DeviceKind
A, B = 0xA1, 0xB2
CODE, OTHER_CODE, TC_KEY, NEW_KEY = (bytes([octet]) * 16 for octet in (0xC0, 0xC1, 0x7C, 0x7D))
NO_HASH = b""

# --- a power cut -----------------------------------------------------------------------------------------------------


def full_snapshot():
    """Return what a log with every kind of field saves."""
    log = DeviceLog()
    log.add(A, PPMID, CODE, 100.0, 0.0)
    log.established(A, TC_KEY)
    log.remove(A, 1.0)
    log.add(A, PPMID, OTHER_CODE, 100.0, 10.0)
    log.add(B, ESME, CODE, 100.0, 10.0)
    log.joined(B, 11.0)
    log.established(B, NEW_KEY)
    return json.loads(json.dumps(log.snapshot()))


def test_a_power_cut_leaves_the_log_and_the_carrier_is_asked_anew():
    """Periods go on through the cut; what was over meanwhile ends at the next deadline."""
    saved = full_snapshot()
    log = DeviceLog()
    assert log.restore(saved, 30.0) == [JoinAllowed(A, TC_KEY, 30.0)]
    assert log.snapshot() == saved
    assert log.restore(saved, 80.0) == [JoinAllowed(A, OTHER_CODE, 30.0)]
    assert log.restore(saved, 500.0) == []
    assert log.on_deadline(500.0) == [JoinPeriodEnded(A)]


def breakage(change):
    """Return a snapshot that `change` broke."""
    saved = full_snapshot()
    change(saved)
    return saved


def put(where, index, **values):
    """Return a change of some fields of one value."""
    return lambda saved: saved[where][index].update(values)


BROKEN = {
    "entries is no list": lambda saved: saved.update(entries=None),
    "historic is no list": lambda saved: saved.pop("historic"),
    "entries[1] does not have the fields": lambda saved: saved["entries"][1].pop("kind"),
    "historic[0] does not have the fields": put("historic", 0, extra=1),
    "entries[0].eui64": put("entries", 0, eui64="A1"),
    "entries[1].eui64 is there twice": put("entries", 1, eui64=f"{A:016X}"),
    "entries[0].kind": put("entries", 0, kind=CODE.hex()),
    "entries[1].kind": put("entries", 1, kind=[]),
    "entries[0].link_key": put("entries", 0, link_key=CODE.hex()[:-1]),
    "entries[1].link_key": put("entries", 1, link_key=CODE.hex()[:-2]),
    "entries[0].added_at": put("entries", 0, added_at=CODE.hex()),
    "entries[1].added_at": put("entries", 1, added_at=True),
    "entries[0].join_until is not": put("entries", 0, join_until=float("nan")),
    "entries[1].join_until is not": put("entries", 1, join_until=10**400),
    "entries[0].join_until is 3700.5 s ahead": put("entries", 0, join_until=3720.5),
    "entries[0].joined": put("entries", 0, joined=0),
    "entries[1].tc_key": put("entries", 1, tc_key="z" * 32),
    "entries[0].historic_key": put("entries", 0, historic_key=b"".hex()),
    "entries[0].historic_until does not": put("entries", 0, historic_until=None),
    "entries[1].historic_until does not": put("entries", 1, historic_until=50.0),
    "entries[0].historic_until does not go": put("entries", 0, tc_key=NEW_KEY.hex()),
    "historic[0].removed_at": put("historic", 0, removed_at=None),
    "entries[2] is one too many": lambda saved: (
        saved["entries"][0].update(kind="gsme"),
        saved["entries"].append({**saved["entries"][0], "eui64": f"{0xC3:016X}"}),
    ),
    "historic has more than 15": lambda saved: saved["historic"].extend(
        {**saved["historic"][0], "eui64": f"{eui64:016X}"} for eui64 in range(15)
    ),
    "historic[1].eui64 is there twice": lambda saved: saved["historic"].append(saved["historic"][0]),
}


@pytest.mark.parametrize("named", BROKEN)
def test_a_broken_snapshot_is_our_error_and_names_the_field_but_no_key(named):
    """A log that is restored in vain is as it was."""
    log = DeviceLog()
    log.add(B, ESME, CODE, 100.0, 0.0)
    before = log.snapshot()
    with pytest.raises(LocalProtocolError) as caught:
        log.restore(breakage(BROKEN[named]), 20.0)
    message = str(caught.value)
    assert named in message
    for key in (CODE, OTHER_CODE, TC_KEY, NEW_KEY):
        assert key.hex()[:8] not in message
    assert log.snapshot() == before


def test_what_is_no_snapshot_at_all_is_our_error():
    """JSON may hold anything."""
    for saved in (None, [], {}, {"entries": [1], "historic": []}):
        with pytest.raises(LocalProtocolError):
            DeviceLog().restore(saved, 0.0)


# --- any sequence ----------------------------------------------------------------------------------------------------

LIMITS = st.sampled_from(
    [DeviceLimits(), DeviceLimits(2, 1, 2, 1, ppmid=1, total=5, historic=2), DeviceLimits(historic=0)]
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add"] * 4 + ["remove", "joined", "left", "established", "rejected", "time", "late", "cut"]
        ),
        st.integers(0, 7),
        st.sampled_from(DeviceKind),
        st.floats(0.25, 100.0),
    ),
    max_size=40,
)


class Carrier:
    """What the requests of a log leave in a radio: which device may join, with which key and until when."""

    def __init__(self):
        self.keys = {}

    def obey(self, events, now):
        for event in events:
            if isinstance(event, JoinAllowed):
                assert event.seconds > 0
                self.keys[event.eui64] = (event.key, now + event.seconds)
            elif isinstance(event, (JoinPeriodEnded, EntryRemoved)):
                self.keys.pop(event.eui64, None)

    def join_key(self, eui64, now):
        key, until = self.keys.get(eui64, (None, 0.0))
        return key if now < until - 1e-3 else None


def join_key(entry, now):
    """The key with which a device of the log joins: by its periods, None when they are over."""
    if entry.historic_until is not None and now < entry.historic_until:
        return entry.historic_key
    return entry.link_key if entry.join_until is not None and now < entry.join_until else None


def act(log, action, eui64, kind, amount, key, now):
    """Do one thing; return the events."""
    if action == "add":
        return log.add(eui64, kind, key, amount, now)
    if action == "established":
        return log.established(eui64, key)
    return {"remove": log.remove, "joined": log.joined, "left": log.left, "rejected": log.rejected}[action](
        eui64, now
    )


def hashes(log):
    """Return what CS14 has to tell of a log."""
    return tuple((entry.eui64, mmo(entry.tc_key) if entry.tc_key else NO_HASH) for entry in log.entries)


def check_room(log, limits):
    """The limits hold, whatever came."""
    kinds = [entry.kind for entry in log.entries]
    assert len(kinds) <= limits.total - 1
    assert kinds.count(ESME) <= limits.esme
    assert kinds.count(GSME) <= limits.gsme
    assert sum(kind in TYPE_1 for kind in kinds) <= limits.type_1
    assert sum(kind in TYPE_2 for kind in kinds) <= limits.type_2
    assert limits.ppmid is None or kinds.count(PPMID) + kinds.count(BRIDGE) <= limits.ppmid
    assert len(log.historic) <= limits.historic <= 15


@settings(max_examples=200, deadline=None)
@given(LIMITS, ACTIONS)
def test_whatever_happens_no_limit_is_exceeded_and_no_key_outlives_its_period(limits, actions):
    """A carrier that only obeys the events allows what the log allows; CS14 tells each change, and no other."""
    log, carrier, now = DeviceLog(limits), Carrier(), 0.0
    latest: dict[int, float] = {}  # when the last period that was asked for is over
    for number, (action, eui64, kind, amount) in enumerate(actions, 1):
        before = hashes(log)
        known = log.kind_of(eui64)
        if action in ("time", "late"):
            deadline, end = log.next_deadline(), now + amount
            while action == "time" and deadline is not None and deadline <= end:
                now = max(now, deadline)
                carrier.obey(log.on_deadline(now), now)
                later = log.next_deadline()
                assert later is None or later > deadline
                deadline = later
            now, events = end, []
            if action == "late":
                events = log.on_deadline(now)
                ended = [event.eui64 for event in events if isinstance(event, JoinPeriodEnded)]
                assert len(ended) == len(set(ended))
        elif action == "cut":
            saved = json.loads(json.dumps(log.snapshot()))
            again = DeviceLog(limits)
            events = again.restore(saved, now)
            assert (again.entries, again.historic) == (log.entries, log.historic)
            assert again.snapshot() == saved
            log, carrier = again, Carrier()
        else:
            events = act(log, action, eui64, kind, amount, bytes([number]) * 16, now)
        carrier.obey(events, now)
        if action == "add" and not isinstance(events[0], EntryRefused):
            latest[eui64] = now + amount
            assert log.kind_of(eui64) is (known or kind)
        assert log.backup == hashes(log)
        assert events.count(DeviceLogChanged()) == (hashes(log) != before)
        check_room(log, limits)
        for device in range(8):
            entry = next((entry for entry in log.entries if entry.eui64 == device), None)
            if entry is None:
                assert device not in carrier.keys
            elif not entry.joined and entry.tc_key is None:
                key = join_key(entry, now)
                assert key is None or now < latest[device]
                if key == join_key(entry, now + 2e-3):
                    assert carrier.join_key(device, now) == key


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["entries", "historic"]),
    st.sampled_from(sorted({*full_snapshot()["entries"][0], "removed_at"})),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=3,
    ),
)
def test_anything_in_a_field_is_restored_or_is_our_error(where, name, value):
    """No value of JSON gets another error out of it, and what is taken is given back."""
    saved = full_snapshot()
    saved[where][0][name] = value
    log = DeviceLog()
    try:
        log.restore(saved, 20.0)
    except LocalProtocolError:
        assert log.snapshot() == DeviceLog().snapshot()
    else:
        again = DeviceLog()
        again.restore(log.snapshot(), 20.0)
        assert again.snapshot() == log.snapshot()
