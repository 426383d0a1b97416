"""Deliberate faults that a member can be given, to prove that the conformance tests see them.

No member has a switch for its faults. Each fault is a class whose methods take the place of the member's, and one row
of `DEFECTS`, which names the requirements whose tests must fail. tests/unit/test_defects.py holds them to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from harness.members import defects_of_devices as of_devices
from harness.members import defects_of_hubs as of_hubs
from harness.members.device import HanDevice
from harness.members.hub import Hub
from harness.members.kinds import ACTIVATED_BY_COMMAND

_Behaviour = TypeVar("_Behaviour", HanDevice, Hub)

HUB: Final = "hub"


@dataclass(frozen=True, slots=True)
class Defect:
    """One fault. `roles` may have it: those of the device profiles.

    The tests of `requirements` fail on a member that has it, and no others: the one that it was made to break stands
    first, and behind it what shares a test with that or cannot hold without it. `flaw` has the methods.
    """

    roles: tuple[str, ...]
    requirements: tuple[str, ...]
    flaw: type[HanDevice] | type[Hub]

    @property
    def does(self) -> str:
        """What a member with it does, in one sentence."""
        return (self.flaw.__doc__ or "").partition("\n")[0]


_DEVICES: Final = ("esme", "gsme", "hcalcs", "ppmid")
_COMMANDED: Final = tuple(ACTIVATED_BY_COMMAND)

DEFECTS: Final[Mapping[str, Defect]] = MappingProxyType(
    {
        "runs_what_an_abort_left": Defect(("ppmid",), ("AH-08",), of_devices.RunsWhatAnAbortLeft),
        "asks_no_more_after_an_abort": Defect(("ppmid",), ("AH-08",), of_devices.AsksNoMoreAfterAnAbort),
        "runs_half_an_image_after_a_power_cut": Defect(
            _DEVICES, ("FW-09",), of_devices.RunsHalfAnImageAfterAPowerCut
        ),
        "ignores_image_notify": Defect(
            ("esme", "hcalcs", "ppmid"), ("FW-10",), of_devices.IgnoresImageNotify
        ),
        "says_nothing_of_its_activation": Defect(
            ("ppmid",), ("FW-08",), of_devices.SaysNothingOfItsActivation
        ),
        "says_that_it_activated": Defect(("ppmid",), ("FW-08",), of_devices.SaysThatItActivated),
        "obeys_without_a_link_key": Defect(_DEVICES, ("JN-03",), of_devices.ObeysWithoutALinkKey),
        "runs_at_once": Defect(
            _COMMANDED, ("FW-02", "FW-04", "FW-05", "FW-09", "FW-10", "SU-13"), of_devices.RunsAtOnce
        ),
        "takes_any_signature": Defect(_COMMANDED, ("FW-01", "SU-13"), of_devices.TakesAnySignature),
        "takes_any_hash": Defect(_COMMANDED, ("FW-04", "SU-13"), of_devices.TakesAnyHash),
        "says_success_without_an_image": Defect(
            _COMMANDED, ("FW-03", "FW-01", "FW-05", "SU-13"), of_devices.SaysSuccessWithoutAnImage
        ),
        "names_its_first_version": Defect(
            _COMMANDED, ("SU-13", "FW-02", "FW-05"), of_devices.NamesItsFirstVersion
        ),
        "acts_before_its_time": Defect(_COMMANDED, ("FW-05", "FW-09"), of_devices.ActsBeforeItsTime),
        "ignores_a_cancellation": Defect(_COMMANDED, ("FW-05",), of_devices.IgnoresACancellation),
        "asks_at_every_wake_up": Defect(("gsme",), ("FW-16",), of_devices.AsksAtEveryWakeUp),
        "takes_an_incomplete_package": Defect(("bridge",), ("AH-12",), of_devices.TakesAnIncompletePackage),
        "hides_a_failed_bridge": Defect(("bridge",), ("AH-13", "AH-02"), of_devices.HidesAFailedBridge),
        "keeps_a_bridges_image": Defect((HUB,), ("AH-03", "FW-06"), of_hubs.KeepsABridgesImage),
        "keeps_a_ppmids_image": Defect((HUB,), ("AH-04",), of_hubs.KeepsAPpmidsImage),
        "keeps_a_ppmids_image_from_an_hcalcs": Defect(
            (HUB,), ("AH-05",), of_hubs.KeepsAPpmidsImageFromAnHcalcs
        ),
        "overwrites_silently": Defect(
            (HUB,), ("FW-06", "AH-03", "AH-04", "AH-05"), of_hubs.OverwritesSilently
        ),
        "calls_a_failed_transfer_a_success": Defect((HUB,), ("FW-06",), of_hubs.CallsAFailedTransferASuccess),
        "takes_a_refusal_for_a_failed_transfer": Defect(
            (HUB,), ("AH-15",), of_hubs.TakesARefusalForAFailedTransfer
        ),
        "ignores_the_hardware": Defect((HUB,), ("FW-07", "FW-06"), of_hubs.IgnoresTheHardware),
        "serves_any_device": Defect((HUB,), ("FW-11",), of_hubs.ServesAnyDevice),
        "never_clears_a_flag": Defect((HUB,), ("FW-17",), of_hubs.NeverClearsAFlag),
        "lets_join_at_any_time": Defect((HUB,), ("JN-01",), of_hubs.LetsJoinAtAnyTime),
        "has_no_limits": Defect((HUB,), ("AH-14", "JN-05"), of_hubs.HasNoLimits),
    }
)


def defective(behaviour: type[_Behaviour], names: Iterable[str]) -> type[_Behaviour]:
    """Return the class of a behaviour that has these defects, which are of its role; the class itself without any."""
    flaws: list[type] = [DEFECTS[name].flaw for name in names]
    return type(behaviour.__name__, (*flaws, behaviour), {}) if flaws else behaviour
