"""A small world for the tests of the Inventory: a CPL, a premises, and the ways to ask it."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.smi.devices import DeviceStatus, DeviceType, PpmidVariant, SmetsFamily
from harness.smi.firmware_table import CplRow, CplStatus
from harness.smi.inventory import Inventory
from harness.smi.options import Options
from harness.smi.requests import (
    ActivateFirmware,
    OtherRequest,
    PreNotifyDevice,
    ReadFirmwareVersion,
    Refused,
    UpdateFirmware,
    UpdateInventory,
    UpdatePpmidFirmware,
    User,
    UserRole,
)
from harness.smi.responses import (
    ActivationOutcome,
    CplLoaded,
    DeviceCommissioned,
    DeviceJoined,
    DeviceLogUpdated,
    FirmwareActivated,
    FirmwareVersionRead,
)

IS, GS = User(UserRole.IS), User(UserRole.GS)
S1, S2 = SmetsFamily.SMETS1, SmetsFamily.SMETS2
ESME_ID, GSME_ID, GPF_ID = 0x11, 0x12, 0x13
HUB_1, HUB_2, PPMID_ID, HCALCS_ID, IHD_ID = 0x21, 0x22, 0x31, 0x32, 0x33
V1, V2, V3, V9 = 0x0100, 0x0200, 0x0300, 0x0900
STRANGER = 0x77

SUCCESS, NO_IMAGE = ActivationOutcome.SUCCESS, ActivationOutcome.NO_IMAGE_HELD


def image_hash(model: str, version: int) -> bytes:
    """Return a hash that is this image's alone."""
    return f"{model}/{version:08X}".encode().ljust(32, b"\0")[:32]


def row(model: str, version: int, smets: str = "SMETS2", **other: Any) -> CplRow:
    """Return an Active CPL row for a model, whose name begins with its Device type."""
    said: dict[str, Any] = {
        "device_type": model.split("-")[0],
        "manufacturer": "Acme",
        "model": model,
        "hardware_version": None,
        "firmware_version": version,
        "smets": smets,
        "smets_version": "5.1" if smets == "SMETS2" else "1.2",
        "gbcs_version": "4.1" if smets == "SMETS2" else None,
        "image_hash": image_hash(model, version),
        "status": "Active",
    }
    return CplRow(**said | other)


ROWS = (
    *(row(model, version) for model in ("ESME-a", "GSME-a", "HCALCS-a") for version in (V1, V2, V3)),
    # PPMID-dual has two rows a version, the hashes equal; the others have one.
    *(row("PPMID-dual", version, smets) for version in (V1, V2) for smets in ("SMETS1", "SMETS2")),
    *(row("PPMID-s2", version, "SMETS2") for version in (V1, V2)),
    *(row("PPMID-s1", version, "SMETS1") for version in (V1, V2)),
    row("CHF-s2", V1, "SMETS2"),
    row("CHF-s2", V2, "SMETS2"),
    row("CHF-old", V1, "SMETS2", gbcs_version="3.2"),
    row("CHF-s1", V1, "SMETS1"),
)


def without(model: str, version: int, smets: str | None = None) -> tuple[CplRow, ...]:
    """Return the CPL without a model's version, in one family or in both."""
    return tuple(
        one
        for one in ROWS
        if (one.model, one.firmware_version) != (model, version) or smets not in (None, one.smets)
    )


def withdrawn(model: str, version: int) -> tuple[CplRow, ...]:
    """Return the CPL with a model's version Withdrawn."""
    return (*without(model, version), row(model, version, status=CplStatus.WITHDRAWN))


class Premises(NamedTuple):
    """An Inventory, and the alerts that each step brought."""

    inventory: Inventory

    def apply(self, event: Any, now: float = 100.0) -> list[Any]:
        return self.inventory.apply(event, now)

    def load(self, rows: tuple[CplRow, ...], label: str = "CPL 2", now: float = 100.0) -> list[Any]:
        return self.apply(CplLoaded(label, rows), now)

    def status(self, device: int) -> str:
        return str(self.inventory.device(device).status)

    def version(self, device: int) -> int | None:
        return self.inventory.device(device).firmware_version

    def family(self, device: int) -> str:
        return str(self.inventory.device(device).smets)

    def pre_notify(
        self,
        device: int,
        model: str,
        smets: SmetsFamily = S2,
        version: int | None = V1,
        variant: PpmidVariant | str | None = None,
        gpf: int | None = None,
    ) -> list[Any]:
        kind = DeviceType(model.split("-")[0])
        manufacturer = "Acme"
        return self.apply(
            PreNotifyDevice(IS, device, kind, manufacturer, model, smets, version, variant, gpf), 1.0
        )

    def join(self, device: int, hub: int) -> list[Any]:
        """Add to the Device Log and join: what the hub and the Device say."""
        return [
            *self.apply(DeviceLogUpdated(hub, device, True), 2.0),
            *self.apply(DeviceJoined(hub, device), 3.0),
        ]

    def commission(self, device: int, model: str, hub: int | None = None, **pre_notified: Any) -> None:
        """Bring a Device from nothing to Commissioned."""
        (verdict,) = self.pre_notify(device, model, **pre_notified)
        assert not isinstance(verdict, Refused), verdict
        if hub is not None:
            self.join(device, hub)
        self.apply(DeviceCommissioned(device), 4.0)
        assert self.status(device) == DeviceStatus.COMMISSIONED

    def read(self, device: int, version: int) -> list[Any]:
        """Send SR11.2 and take its response, if it passes."""
        verdict = self.apply(ReadFirmwareVersion(GS if device in (GSME_ID, GPF_ID) else IS, device))[0]
        return [verdict] if isinstance(verdict, Refused) else self.apply(FirmwareVersionRead(device, version))

    def activated(self, device: int, outcome: ActivationOutcome, version: int) -> list[Any]:
        """Send SR11.3 and take its response, if it passes."""
        user = GS if device == GSME_ID else IS
        verdict = self.apply(ActivateFirmware(user, device, bytes(32)))[0]
        response = FirmwareActivated(device, outcome, version)
        return [verdict] if isinstance(verdict, Refused) else self.apply(response)

    def code(self, request: Any) -> str | None:
        """Return the code of a request's verdict, checked only."""
        verdict = self.inventory.check(request)
        return None if verdict.code is None else str(verdict.code)

    def top_up(self, device: int) -> str | None:
        return self.code(OtherRequest(GS if device == GSME_ID else IS, device, "2.2"))


def premises(meters: bool = True, **options: Any) -> Premises:
    """Return an Inventory with the CPL, a SMETS2+ hub with its GPF, a SMETS1 hub, and a meter for each fuel."""
    made = Premises(Inventory(Options(**options)))
    made.load(ROWS, "CPL 1", 0.0)
    made.commission(HUB_2, "CHF-s2", gpf=GPF_ID)
    made.commission(HUB_1, "CHF-s1", smets=S1)
    made.apply(DeviceCommissioned(GPF_ID), 4.0)
    if meters:
        made.commission(ESME_ID, "ESME-a", HUB_2)
        made.commission(GSME_ID, "GSME-a", HUB_2)
    return made


def update(
    *devices: int, version: int = V2, user: User = IS, number: str = "r1", **other: Any
) -> UpdateFirmware:
    """Return an SR11.1."""
    return UpdateFirmware(number, user, version, devices, **other)


def update_ppmid(*devices: int, version: int = V2, number: str = "r1", **other: Any) -> UpdatePpmidFirmware:
    """Return an SR11.4."""
    return UpdatePpmidFirmware(number, IS, version, devices, **other)


def relabel(device: int, variant: PpmidVariant) -> UpdateInventory:
    """Return an SR8.4 that changes a PPMIDVariant."""
    return UpdateInventory(IS, device, ppmid_variant=variant)
