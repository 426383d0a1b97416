"""Tests of comparing campaigns: the figures of SU-12, the same losses on both sides, and a recount from the records."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.smi.campaign import CampaignImage
from harness.smi.campaign_runs import (
    DAY,
    METER,
    CampaignRun,
    Losses,
    compare,
    made_up_meters,
    rebuilding,
    runs_to_plain,
)
from harness.smi.devices import DeviceStatus, DeviceType
from harness.smi.inventory import Inventory
from harness.smi.plain import to_plain
from tests.unit.smi_bench import (
    ESME_ID,
    GSME_ID,
    HCALCS_ID,
    HUB_2,
    PPMID_ID,
    V1,
    V2,
    Premises,
    premises,
)

BEFORE_AFTER = ("before", "sr11_2", "both")


def meters(
    count: int, losses: Losses, values: tuple[str, ...] = ("before", "both"), **other: int
) -> list[CampaignRun]:
    """Compare a campaign over made-up meters."""
    build = partial(made_up_meters, count)
    listed = meters_of(build())
    return list(compare(build, [METER], listed, option="mp105", values=values, losses=losses, **other))


def meters_of(inventory: Inventory) -> list[int]:
    """Return the ESMEs of an Inventory."""
    return [device for device in inventory if inventory.device(device).device_type is DeviceType.ESME]


def test_a_campaign_that_loses_one_response_in_five_ends_aligned_after_the_modification_only():
    """SU-12, 500 meters: with MP105 all are aligned, and none needs a second image; before it, one in five does."""
    before, reading, both = (run.outcome for run in meters(500, Losses(7, 0.2), BEFORE_AFTER))
    assert (before.end.aligned, before.end.suspended, before.second_images) == (409, 91, 91)
    assert (reading.end.aligned, reading.end.suspended, reading.second_images) == (500, 0, 0)
    assert (both.end.aligned, both.end.suspended, both.second_images) == (500, 0, 0)
    # All run the image from the first day on: what is lost is only that the Inventory knows.
    assert before.days[0].updated == both.days[0].updated == 500
    # The second images' responses are lost, too: one in five of those that needed one.
    assert before.after_second is not None
    assert (before.after_second.aligned, before.after_second.suspended) == (476, 24)
    assert (reading.after_second, both.after_second) == (None, None)


def test_before_the_modification_retries_are_sent_and_change_nothing():
    """F4.3: the retry says the version and not "success"; SR11.2 is refused with E5, and so not sent."""
    before, both = (run.outcome for run in meters(200, Losses(3, 0.2)))
    lost = before.days[0].suspended
    assert 20 <= lost <= 60
    assert [count.suspended for count in before.days[:9]] == [lost] * 9
    assert before.requests == {"11.1": 2, "11.3": 200 + 8 * lost + lost + 8 * before.days[-1].suspended}
    assert set(both.requests) == {"11.1", "11.2", "11.3"}
    assert both.suspended_device_days < before.suspended_device_days


def test_both_sides_lose_the_same():
    """The same seed: the first round, which is the same under every option, ends the same; another seed is another."""
    first = [run.outcome.days[0] for run in meters(300, Losses(11, 0.2), BEFORE_AFTER)]
    assert first[0] == first[1] == first[2]
    assert meters(300, Losses(12, 0.2))[0].outcome.days[0] != first[0]


@given(
    st.integers(0, 2**32), st.integers(1, 2**64 - 2), st.sampled_from(["11.2", "11.3"]), st.integers(1, 20)
)
@settings(max_examples=100)
def test_a_message_is_lost_or_not_whatever_else_is_sent(seed, device, srv, attempt):
    """Nothing is drawn in an order; and what is lost at one share is lost at every greater one."""
    lost = [Losses(seed, share).response_lost(device, srv, attempt) for share in (0.0, 0.3, 0.6, 1.0)]
    again = [Losses(seed, share).response_lost(device, srv, attempt) for share in (0.0, 0.3, 0.6, 1.0)]
    assert lost == again == sorted(lost)
    assert (lost[0], lost[-1]) == (False, True)


def test_the_share_that_is_lost_is_the_share_that_was_asked_for():
    """Of 20,000 messages each way, within 1 %: over four standard deviations are 1.1 %."""
    losses = Losses(5, 0.2, 0.1)
    messages = [(device, attempt) for device in range(1, 2001) for attempt in range(1, 11)]
    responses = sum(losses.response_lost(device, "11.3", attempt) for device, attempt in messages)
    requests = sum(losses.request_lost(device, "11.3", attempt) for device, attempt in messages)
    assert abs(responses / 20_000 - 0.2) < 0.01
    assert abs(requests / 20_000 - 0.1) < 0.01


def test_lost_requests_are_made_up_for_by_the_retry_under_every_option():
    """A Device that SR11.3 did not reach activates at the retry, and says success."""
    before, both = (run.outcome for run in meters(200, Losses(2, 0.0, 0.3)))
    assert before.days[0].updated == both.days[0].updated < 200
    assert (before.end.updated, before.end.aligned, before.end.suspended) == (200, 200, 0)
    assert (before.lost_responses, before.second_images) == (0, 0)
    assert before.lost_requests > 0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_lost_and_everything_lost(share):
    """At 0 no option makes a difference; at 1 none helps, and a second image does not either."""
    for run in meters(20, Losses(1, share)):
        outcome = run.outcome
        assert outcome.end.aligned == (20 if share == 0 else 0)
        assert outcome.end.suspended == outcome.second_images == (0 if share == 0 else 20)
        assert outcome.after_second is None or outcome.after_second.suspended == 20
        assert outcome.end.updated == 20


def recounted(run: CampaignRun, day: int, start: float) -> tuple[int, int]:
    """Count aligned and Suspended at the end of a day from the changes that the Inventory's records keep."""
    aligned = suspended = 0
    for device in run.running:
        shown = run.inventory.device(device)
        assert shown.forgotten == 0
        status: object = None
        versions: list[object] = []
        for change in shown.history:
            if change.at > start + day * DAY:
                continue
            if change.field == "status":
                status = change.after
            elif change.field == "firmware_version":
                versions.append(change.after)
        suspended += status is DeviceStatus.SUSPENDED
        # Every meter runs the first image from day 0 on: it is aligned once the Inventory has that.
        aligned += versions[-1] == METER.firmware_version
    return aligned, suspended


@given(
    st.integers(1, 40),
    st.integers(0, 1000),
    st.floats(0, 1),
    st.sampled_from([(a, "both") for a in BEFORE_AFTER[:2]]),
)
@settings(max_examples=25, deadline=None)
def test_the_figures_are_what_the_records_say(count, seed, loss, values):
    """Each day's figures, counted again from the histories; and the requests' sums."""
    day = made_up_meters(1).ledger.table.day
    assert (day.year, day.month, day.day) == (2021, 11, 4)
    start = 1_635_984_000.0
    for run in meters(count, Losses(seed, loss), values, retry_days=3):
        outcome = run.outcome
        assert len(outcome.days) == (4 if outcome.second_images == 0 else 8)
        for count_of_day in outcome.days[:4]:
            assert (count_of_day.aligned, count_of_day.suspended) == recounted(run, count_of_day.day, start)
        assert outcome.end == outcome.days[3]
        assert [one.day for one in outcome.days] == list(range(len(outcome.days)))
        assert outcome.after_second == (outcome.days[7] if outcome.second_images else None)
        assert outcome.suspended_device_days == sum(one.suspended for one in outcome.days)
        assert outcome.planned == count == outcome.end.aligned + outcome.end.suspended
        last = outcome.days[-1]
        records = [run.inventory.device(device) for device in run.running]
        assert last.suspended == sum(one.status is DeviceStatus.SUSPENDED for one in records)
        assert last.aligned == sum(one.firmware_version == run.running[one.device] for one in records)


def test_comparing_is_deterministic_and_leaves_the_inventory_as_it_was():
    """Twice the same octets; what was compared is a copy."""
    inventory = made_up_meters(50)
    listed = meters_of(inventory)
    snapshot = to_plain(inventory)
    losses, build = Losses(7, 0.3, 0.1), rebuilding(inventory)

    def told() -> str:
        runs = compare(build, [METER], listed, option="mp105", values=["before", "both"], losses=losses)
        return json.dumps(runs_to_plain(runs, losses, 8))

    assert told() == told()
    assert to_plain(inventory) == snapshot


# --- Devices of other kinds ------------------------------------------------------------------------------------------


def mixed() -> Premises:
    """Return a premises with a meter of each fuel, a PPMID and an HCALCS, all at one hub."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    made.commission(HCALCS_ID, "HCALCS-a", HUB_2)
    return made


IMAGES = [CampaignImage("Acme", model, V2) for model in ("ESME-a", "GSME-a", "PPMID-s2", "HCALCS-a")]
DEVICES = [ESME_ID, GSME_ID, PPMID_ID, HCALCS_ID]


def test_a_wave_a_day_brings_every_kind_to_its_image():
    """Three waves at the one hub; the PPMID runs its image by itself, and is never sent SR11.3."""
    (run, _) = compare(
        rebuilding(mixed().inventory),
        IMAGES,
        DEVICES,
        option="mp105",
        values=["both", "before"],
        losses=Losses(1, 0.0),
    )
    assert [len(wave) for wave in run.plan.waves] == [2, 1, 1]
    assert [count.updated for count in run.outcome.days[:3]] == [2, 3, 4]
    assert run.outcome.end.aligned == 4
    assert run.outcome.requests == {"11.1": 3, "11.3": 3, "11.4": 1}
    assert run.running == dict.fromkeys(sorted(DEVICES), V2) == {
        device: run.inventory.device(device).firmware_version for device in DEVICES
    }  # fmt: skip


def test_a_ppmid_whose_alert_is_lost_is_read():
    """SU-08: SR11.2 to a PPMID is SECMP0007's; where the alert 0x8F8B was lost it is all there is."""
    losses = next(
        losses
        for losses in (Losses(seed, 0.5) for seed in range(100))
        if losses.response_lost(PPMID_ID, "0x8F8B", 1) and not losses.response_lost(PPMID_ID, "11.2", 1)
    )
    before, both = (
        run.outcome
        for run in compare(
            rebuilding(mixed().inventory),
            IMAGES,
            [PPMID_ID],
            option="mp105",
            values=["before", "both"],
            losses=losses,
        )
    )
    assert [count.suspended for count in both.days[:2]] == [1, 0]
    assert both.requests == {"11.2": 1, "11.4": 1}
    assert (before.end.suspended, before.second_images) == (1, 1)


def test_other_options_are_compared_too():
    """SECMP0007 off: SR11.4 is none, so that the PPMID is refused, and nothing is sent to it."""
    on, off = (
        run.outcome
        for run in compare(
            rebuilding(mixed().inventory),
            IMAGES,
            DEVICES,
            option="secmp0007",
            values=["on", "off"],
            losses=Losses(1, 0.0),
        )
    )
    assert (on.planned, on.refused, off.planned, off.refused) == (4, 0, 2, 2)
    assert "11.4" not in off.requests


def test_a_campaign_that_nobody_can_take_is_told_and_sends_nothing():
    """All refused: no day passes, no request goes out."""
    run, _ = compare(
        rebuilding(mixed().inventory), [CampaignImage("Acme", "ESME-a", V1)], [ESME_ID],
        option="mp105", values=["both", "before"], losses=Losses(1),
    )  # fmt: skip
    assert (run.outcome.planned, run.outcome.refused, run.outcome.requests) == (0, 1, {})
    assert run.outcome.end.aligned == run.outcome.end.suspended == 0


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "values", "message"), [
    ("mp105", ["before", "boht"], "did you mean both"),
    ("mp1o5", ["before", "both"], "did you mean mp105"),
    ("mp105", ["both"], "no comparison"),
    ("mp105", ["both", "both"], "no comparison"),
])  # fmt: skip
def test_a_comparison_that_there_is_none_of_names_the_nearest(option, values, message):
    """The option or the value that was meant, where that can be told."""
    inventory = made_up_meters(1)
    listed = meters_of(inventory)
    with pytest.raises(LocalProtocolError, match=message):
        compare(rebuilding(inventory), [METER], listed, option=option, values=values, losses=Losses(1))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_is_from_0_to_1(share):
    """Neither way takes another."""
    with pytest.raises(LocalProtocolError, match="not from 0 to 1"):
        Losses(1, share)
    with pytest.raises(LocalProtocolError, match="not from 0 to 1"):
        Losses(1, 0.2, share)


@pytest.mark.parametrize("count", [0, -1, 1_000_001])
def test_a_campaign_is_over_a_million_devices_at_most(count):
    """And over one at least."""
    with pytest.raises(LocalProtocolError, match="not from 1 to 1,000,000"):
        made_up_meters(count)
