"""Meters whose power is cut, and whose messages get lost: the end is the same."""

from __future__ import annotations

import pytest

from harness.members.firmware_values import (
    ActivationBegun,
    ActivationEnded,
    ImageHeld,
)
from harness.wire.ota_client_values import (
    DownloadCompleted,
)
from harness.wire.ota_server import TransferProgressed
from tests.unit import firmware_bench
from tests.unit.firmware_bench import (
    HASH,
    NEW,
    OLD,
)
from tests.unit.meter_bench import (
    METERS,
    SUCCESS,
    WAKES,
    MeterHan,
)
from tests.unit.secured_han import HUB

BLOCK = 56
SMALL = firmware_bench.file(bytes(300))
BOUNDARIES = range(BLOCK, len(SMALL) + BLOCK, BLOCK)


@METERS
@pytest.mark.parametrize("arrives", [True, False], ids=["arrived", "lost"])
def test_a_power_cut_at_any_block_boundary_ends_in_the_right_version(eui64, arrives):
    """The meter goes on with the block that it has not got, holds the image once, and runs it on CS06."""
    cuts = 0
    for boundary in BOUNDARIES:
        han = MeterHan(eui64)
        han.image(SMALL)
        end = min(boundary, len(SMALL))
        served = TransferProgressed(eui64, NEW, end, len(SMALL))
        assert han.run(han.now + WAKES + 60, stop=lambda event, served=served: event == served)
        if arrives:
            han.after(0.007)  # one way takes 5 ms
        assert len(han.meter.flash.download.data) == (end if arrives else boundary - BLOCK)
        han.power_cut(eui64, dark=20.0)
        han.after(WAKES + 120)
        # One block too many was served: the lost one, or the next one, which was asked for before the cut.
        again = not arrives or end < len(SMALL)
        assert len(han.of(HUB, TransferProgressed)) == len(BOUNDARIES) + again
        hash_ = firmware_bench.image_hash(bytes(300))
        assert han.alerts() == [(0x8F72, hash_)]
        assert han.meter.running_version == OLD
        han.activate(hash_)
        han.after(WAKES + 120)
        assert han.outcomes() == [(SUCCESS, NEW)]
        cuts += 1
    assert cuts == 8


@METERS
@pytest.mark.parametrize("moment", [DownloadCompleted, ImageHeld, ActivationBegun, ActivationEnded])
def test_a_power_cut_at_a_turn_of_the_way_ends_in_the_right_version(eui64, moment):
    """Before and after the check, when the change has begun, and when it is done: nothing is said twice or lost."""
    han = MeterHan(eui64)
    han.image()
    cut = han.run(han.now + WAKES + 60, stop=lambda event: isinstance(event, moment))
    if cut:
        han.power_cut(eui64, dark=20.0)
    han.after(WAKES + 120)
    han.activate()
    if not cut:
        assert han.run(han.now + WAKES + 60, stop=lambda event: isinstance(event, moment))
        han.power_cut(eui64, dark=7.0)
    han.after(WAKES + 120)
    assert han.alerts() == [(0x8F72, HASH)]
    assert han.outcomes() == [(SUCCESS, NEW)]
    assert han.meter.running_version == NEW


@METERS
@pytest.mark.parametrize("seed", range(5))
def test_a_lossy_air_delays_but_does_not_change_the_end(eui64, seed):
    """A tenth of all messages lost and a tenth repeated: the image is held once, and CS06 runs it."""
    han = MeterHan(eui64, loss=0.1, repeats=0.1, seed=seed, settled=WAKES)
    han.image()
    han.after(4 * WAKES)
    assert han.of(eui64, ImageHeld) == [ImageHeld(NEW, HASH)]
    for counter in range(1, 8):
        # Nothing repeats a message of the tunnel here: the WAN sends the command again, as a supplier would.
        if han.meter.running_version == OLD:
            han.activate(counter=counter)
            han.after(2 * WAKES)
    assert han.meter.running_version == NEW
