"""A hub and its PPMIDs: whatever is lost, repeated, cut or restarted, the right image runs in the end."""

from __future__ import annotations

import pytest

from harness.members.hub import AttributeRead, Hub, HubConfig
from harness.wire.image import build_image
from harness.wire.ota_client_values import DownloadAborted, DownloadStarted, ImageVerified, UpgradeScheduled
from harness.wire.ota_messages import UPGRADE_WAIT
from harness.wire.ota_server import ImageWithdrawn, OtaServerConfig, TransferStarted, UpgradeEnded
from tests.unit.firmware_bench import activated
from tests.unit.ota_bench import PPMID_EUI64, PPMID_SHORT, Han, ppmid_config, ppmid_image

HOURS = 3600.0


def runs(version):
    """Accepts the event that says so."""
    return lambda event: event == activated(version)


def test_a_ppmid_runs_the_image_it_was_sent():
    """FW-08: from the offer to the new version without anyone's help, and the hub reads it back over the HAN."""
    han = Han()
    han.hub.offer(ppmid_image(version=2), PPMID_EUI64, han.now)
    assert han.run(2 * HOURS, runs(2))
    assert han.ppmid.running_version == 2
    assert han.now < 60.0
    sequence = han.hub.read_attribute(PPMID_SHORT, 0x0019, 0x0002, han.now)
    han.run(han.now + 5.0)
    assert AttributeRead(PPMID_SHORT, 0x0019, 0x0002, sequence, 0, 0x23, 2) in han.kinds()


def test_an_offer_made_later_is_notified():
    """A PPMID that has asked before fetches at the notification, long before its next query."""
    han = Han()
    han.run(100.0)
    han.hub.offer(ppmid_image(version=2), PPMID_EUI64, han.now)
    assert han.run(200.0, runs(2))


@pytest.mark.parametrize("page_size", [0, 200])
@pytest.mark.parametrize("seed", range(8))
def test_lost_and_repeated_messages_change_nothing_in_the_end(seed, page_size):
    """One message in ten lost, one in ten repeated, in any order: the image arrives whole."""
    han = Han(ppmid_config(page_size=page_size), loss=0.1, repeats=0.1, seed=seed)
    han.hub.offer(ppmid_image(version=2, size=3000), PPMID_EUI64, 0.0)
    assert han.run(24 * HOURS, runs(2))
    assert ImageVerified(2, False) not in han.kinds()


def messages_of_a_transfer(config):
    """How many messages reach a PPMID from its start to its restart."""
    han = Han(config)
    han.hub.offer(ppmid_image(version=2), PPMID_EUI64, 0.0)
    assert han.run(2 * HOURS, runs(2))
    return han.delivered


@pytest.mark.parametrize("page_size", [0, 200])
def test_a_power_cut_at_any_message_ends_with_the_right_image(page_size):
    """FW-09: cut at each message of the transfer in turn: old or new version all the time, the new in the end."""
    config = ppmid_config(page_size=page_size)
    last = messages_of_a_transfer(config)
    assert last > 10
    resumed = 0
    for cut in range(1, last + 1):
        han = Han(config)
        han.hub.offer(ppmid_image(version=2), PPMID_EUI64, 0.0)
        han.on_delivery = lambda han=han, cut=cut: han.delivered == cut and han.power_cut()
        assert han.run(2 * HOURS, runs(2)), f"cut at message {cut}"
        assert han.ppmid.running_version == 2
        starts = [event.offset for event in han.kinds() if type(event) in (DownloadStarted, TransferStarted)]
        resumed += starts == [
            0,
            0,
        ]  # one query, one beginning: the second half went on where the first stopped
        assert han.kinds().count(activated(2)) == 1
    assert resumed >= last - 6


@pytest.mark.parametrize("tenths", range(0, 420, 7))
def test_a_power_cut_at_any_time_ends_with_the_right_image(tenths):
    """FW-09: also while it verifies, waits for the upgrade, or changes to the new image."""
    han = Han()
    han.hub.offer(ppmid_image(version=2), PPMID_EUI64, 0.0)
    han.run(tenths / 10)
    assert han.ppmid.running_version in (1, 2)
    han.power_cut(dark=20.0)
    assert han.ppmid.running_version in (1, 2)
    han.run(2 * HOURS, runs(2))
    assert han.ppmid.running_version == 2


def test_power_cuts_again_and_again_cost_time_only():
    """Cut every 4 messages, a long image still arrives, without beginning again."""
    han = Han()
    han.hub.offer(ppmid_image(version=2, size=5000), PPMID_EUI64, 0.0)
    han.on_delivery = lambda: han.delivered % 7 == 0 and han.power_cut()
    assert han.run(24 * HOURS, runs(2))
    assert [event.offset for event in han.kinds() if type(event) is DownloadStarted] == [0]


def test_a_restarted_hub_goes_on_serving():
    """The hub's power is cut in mid-transfer; it keeps image and devices, and the client does not begin again."""
    han = Han()
    han.hub.offer(ppmid_image(version=2, size=3000), PPMID_EUI64, 0.0)
    han.run(HOURS, lambda event: type(event) is TransferStarted)
    han.run(han.now + 0.1)
    han.hub.power_cut()
    han.hub_deaf = True
    han.run(han.now + 20.0)
    han.hub_deaf = False
    assert han.run(2 * HOURS, runs(2))
    assert [event.offset for event in han.kinds() if type(event) is DownloadStarted] == [0]


def test_a_hub_that_is_silent_for_long_is_found_again():
    """An hour without a hub in mid-transfer: aborted, rediscovered, fetched anew."""
    han = Han()
    han.hub.offer(ppmid_image(version=2, size=3000), PPMID_EUI64, 0.0)
    han.run(HOURS, lambda event: type(event) is TransferStarted)
    han.hub_deaf = True
    han.run(HOURS)
    assert any(type(event) is DownloadAborted for event in han.kinds())
    han.hub_deaf = False
    assert han.run(2 * HOURS, runs(2))


@pytest.mark.parametrize("moment", [0.03, 0.08, 0.5, 1.122])
def test_an_image_overwritten_gives_way_to_the_next(moment):
    """AH-08: a PPMID whose image is replaced before its transfer has ended keeps its version and takes the next one."""
    han = Han()
    han.hub.offer(ppmid_image(version=2, size=500), PPMID_EUI64, 0.0)
    han.run(moment)
    (withdrawn,) = han.hub.offer(ppmid_image(version=3, size=800), PPMID_EUI64, han.now)
    assert isinstance(withdrawn, ImageWithdrawn)
    assert han.run(2 * HOURS, runs(3))
    assert activated(2) not in han.kinds()


def test_an_image_that_was_delivered_is_not_lost_to_the_next():
    """Told to upgrade already, the PPMID runs the first image, then fetches the second; nothing is called withdrawn."""
    han = Han()
    han.hub.offer(ppmid_image(version=2), PPMID_EUI64, 0.0)
    han.run(HOURS, lambda event: type(event) is UpgradeEnded)
    assert han.hub.offer(ppmid_image(version=3), PPMID_EUI64, han.now) == []
    assert han.run(2 * HOURS, runs(2))
    assert han.run(2 * HOURS, runs(3))


def test_an_image_withdrawn_leaves_the_old_one_running():
    """AH-08: it stops, keeps running what it ran, asks again, and takes the next image offered hours later."""
    han = Han()
    han.hub.offer(ppmid_image(version=2, size=3000), PPMID_EUI64, 0.0)
    han.run(0.1)
    assert han.hub.withdraw(PPMID_EUI64) == [ImageWithdrawn(PPMID_EUI64, 2, 448)]
    han.run(5 * HOURS)
    (aborted,) = [event for event in han.kinds() if type(event) is DownloadAborted]
    assert aborted.reason == "the server answered ABORT (0x95)"
    assert han.ppmid.running_version == 1
    han.hub.offer(ppmid_image(version=3), PPMID_EUI64, han.now)
    assert han.run(han.now + 120.0, runs(3))


def test_many_ppmids_are_served_at_once():
    """FW-11: eight clients, four by pages, each with an image of its own."""
    configs = [ppmid_config(page_size=(index % 2) * 300, start_jitter=2.0) for index in range(8)]
    han = Han(*configs, loss=0.02)
    for index in range(8):
        han.hub.offer(ppmid_image(version=10 + index, size=2000), PPMID_EUI64 + index, 0.0)
    han.run(2 * HOURS)
    assert [ppmid.running_version for ppmid in han.ppmids.values()] == list(range(10, 18))


def test_a_rate_limit_is_kept():
    """With a MinimumBlockPeriod of 500 ms, twelve blocks take six seconds."""
    han = Han(hub=Hub(HubConfig(ota=OtaServerConfig(block_size=50, block_period_ms=500))))
    han.hub.offer(ppmid_image(version=2, size=540), PPMID_EUI64, 0.0)
    han.run(HOURS, lambda event: type(event) is UpgradeEnded)
    assert 5.5 + 1.0 <= han.now <= 6.5 + 1.0


def test_an_upgrade_waits_for_its_time_and_for_the_word():
    """Later: 10 minutes after the transfer by the hub's clock. Wait: when the hub releases it, a day later."""
    han = Han()
    utc = han.hub.config.ota.utc_at_zero
    han.hub.offer(ppmid_image(version=2), PPMID_EUI64, 0.0, upgrade_at=utc + 600)
    assert han.run(HOURS, runs(2))
    assert 630.0 <= han.now <= 632.0
    han.hub.offer(ppmid_image(version=3), PPMID_EUI64, han.now, upgrade_at=UPGRADE_WAIT)
    assert not han.run(24 * HOURS, runs(3))
    assert UpgradeScheduled(3, None) in han.kinds()
    han.hub.release(PPMID_EUI64, han.now)
    assert han.run(han.now + 60.0, runs(3))


@pytest.mark.parametrize(
    "change",
    [
        {"manufacturer": 0x121E},
        {"image_type": 0x0085},
        {"hardware_min": 0x1181},
        {"hardware_max": 0x117F},
        {"version": 1},
    ],
)
def test_an_image_that_does_not_fit_is_not_fetched(change):
    """FW-13, FW-07: the hub answers NO_IMAGE_AVAILABLE and the PPMID keeps what it runs."""
    han = Han()
    image = ppmid_image(**{"version": 2} | {key: value for key, value in change.items() if key == "version"})
    for key, value in change.items():
        object.__setattr__(image, key, value)
    han.hub.offer(image, PPMID_EUI64, 0.0)
    han.run(3 * HOURS)
    assert not any(type(event) is DownloadStarted for event in han.kinds())
    assert han.ppmid.running_version == 1


def test_a_ppmid_checks_what_its_hub_did_not():
    """A file that arrives whole but is no image for this hardware ends in INVALID_IMAGE, and the old version runs."""
    han = Han()
    good = ppmid_image(version=2)
    offer = han.hub.server.offer(good, PPMID_EUI64)
    bad = bytearray(build_image(good))
    bad[56:60] = b"\0\0\1\0"  # hardware versions 0 to 1
    object.__setattr__(offer, "data", bytes(bad))
    han.run(1800.0)
    assert ImageVerified(2, False) in han.kinds()
    assert UpgradeEnded(PPMID_EUI64, 0x121D, 0x0084, 2, 0x96) in han.kinds()
    assert han.ppmid.running_version == 1


def test_the_same_seed_gives_the_same_run():
    """Two runs on a bad link agree event by event, time by time."""

    def run():
        han = Han(ppmid_config(start_jitter=255.0), loss=0.1, repeats=0.1, seed=5)
        han.hub.offer(ppmid_image(version=2, size=2000), PPMID_EUI64, 0.0)
        han.run(2 * HOURS)
        return han.events

    assert run() == run()
