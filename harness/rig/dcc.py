"""The DCC of an open rig, and the Inventory of its premises, as tests and operators speak of them."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.dcc.csp import Csp, CspConfig, LostOnTheWan
from harness.dcc.divergence import Diverged, Divergence
from harness.dcc.dsp import Applied, Dsp, DspConfig, Ended, Originator
from harness.dcc.emulated import EmulatedDcc
from harness.dcc.interface import Alerted, Answer, DccSystem
from harness.dcc.manual import ManualDcc
from harness.dcc.payloads import image_hash_in
from harness.errors import LocalProtocolError, RigError
from harness.members.kinds import ACTIVATED_BY_COMMAND
from harness.rig.dcc_settings import DccSettings
from harness.rig.nouns import Device, Member
from harness.rig.profile import BridgeProfile, HubProfile, PpmidProfile, UpgradableProfile
from harness.rig.supplier import supplier_of
from harness.smi.devices import (
    DeviceStatus,
    DeviceType,
    PpmidVariant,
    SmetsFamily,
    format_version,
)
from harness.smi.firmware_table import CplRow, CplStatus
from harness.smi.inventory import Inventory
from harness.smi.options import Mp170
from harness.smi.requests import (
    ActivateFirmware,
    PreNotifyDevice,
    ReadFirmwareVersion,
    Refused,
    ServiceRequest,
    UpdateFirmware,
    UpdatePpmidFirmware,
    User,
    UserRole,
)
from harness.smi.responses import CplLoaded, DeviceCommissioned, DeviceJoined, DeviceLogUpdated
from harness.smi.rules import mp170
from harness.wire.image import OtaImage, build_image

if TYPE_CHECKING:
    from harness.rig.dcc_kept import KeptInventory
    from harness.rig.open import Rig

JOURNALLED_AS = "dcc"

_2026 = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # where the clocks of emulated members begin
_TYPES = {
    "hub": DeviceType.CHF,
    "esme": DeviceType.ESME,
    "gsme": DeviceType.GSME,
    "hcalcs": DeviceType.HCALCS,
    "ppmid": DeviceType.PPMID,
    "bridge": DeviceType.PPMID,
    "ihd": DeviceType.IHD,
}
_HIDING = (mp170.option_a_shows.id, mp170.option_b_shows.id)
_GAS = (DeviceType.GSME, DeviceType.GPF)


@dataclass(frozen=True, slots=True)
class CplPublished:
    """A CPL of so many rows was loaded."""

    label: str
    rows: int


class Dcc:
    """Whoever carries Service Requests on a rig: `DccSystem`, spoken to in the rig's nouns.

    The Inventory is empty until `enrol`, or the requests themselves, put the members in it; one that the rig file has
    kept in a database is as the last run left it. RigError for a database that cannot be used.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._settings = settings = rig.file.dcc or DccSettings()
        listed = self._listed()
        self._kept = self._keep()
        # The virtual time of a run goes on where that of the run before ended.
        last = 0.0 if self._kept is None else self._kept.last
        self._began = (max(_2026, last) if rig.file.is_emulated else time.time()) - rig.now()
        self._requests = 0 if self._kept is None else self._kept.distributions
        self.inventory = Inventory(settings.options) if self._kept is None else self._kept.inventory
        """The Smart Metering Inventory of this premises."""
        self._rows = list(self.inventory.rows())
        self._divergence = Divergence(self.inventory)
        self._emulated: EmulatedDcc | None = None
        try:
            self.system: DccSystem = (
                self._manual() if rig.file.carries_requests == "manual" else self._emulate()
            )
            """What carries them, in the terms of the Inventory: requests and EUI-64s."""
            self._publish_at_first(listed)
        except (
            BaseException
        ):  # whatever it was, nobody else is to be kept from the database by a DCC that never was
            if self._kept is not None:
                with suppress(RigError):  # what went wrong first is what must be told
                    self._kept.close()
            raise

    def _keep(self) -> KeptInventory | None:
        url = self._settings.database
        if url is None:
            return None
        from harness.rig.dcc_kept import KeptInventory  # and SQLAlchemy, which is slow to load

        return KeptInventory(url, self._rig.name, self._settings.options)

    async def close(self) -> None:
        """End it: what is under way comes to nothing. RigError when the database cannot keep the Inventory's end."""
        await self.system.close()
        if self._kept is not None:
            self._kept.close()

    def _emulate(self) -> EmulatedDcc:
        rig, settings = self._rig, self._settings
        if rig.file.carries_requests is None:
            raise RigError(
                f"{rig.file.path}: dcc: is missing: the hub is by equipment, and nothing here has a way to its WAN side"
            )
        supplier, wan = supplier_of(rig.file), rig.hub.wan
        originator = None
        if supplier is not None:
            originator = Originator(supplier.eui64, supplier.private_key, wan.next_counter)
        loss = settings.loss
        dsp = Dsp(self.inventory, originator, DspConfig(settings.response_seconds, settings.attempts))
        seed = rig.file.seed if rig.file.is_emulated else random.SystemRandom().getrandbits(32)
        csp = Csp(CspConfig(settings.latency_seconds, loss.requests, loss.responses), seed)
        self._emulated = EmulatedDcc(dsp, csp, wan, clock=self.now, on_event=self._note)
        wan.on_message = self._emulated.take
        return self._emulated

    def _manual(self) -> ManualDcc:
        settings = self._settings
        assert settings.folder is not None  # load_rig saw to it
        return ManualDcc(
            self.inventory,
            settings.folder,
            clock=self.now,
            poll_seconds=settings.poll_seconds,
            on_event=self._note,
        )

    # --- time and events ---------------------------------------------------------------------------------------------

    def now(self) -> float:
        """What its clock says, in POSIX seconds."""
        return self._began + self._rig.now()

    @property
    def alerts(self) -> list[Alerted]:
        """The DCC Alerts so far, in order."""
        return self.system.alerts

    def alerts_of(self, number: str) -> list[Any]:
        """The DCC Alerts of a number ("N52") so far."""
        return [raised.alert for raised in self.alerts if raised.alert.number == number]

    def _note(self, event: object) -> None:
        if isinstance(event, Applied) and isinstance(event.event, CplLoaded):
            event = CplPublished(event.event.label, len(event.event.rows))  # a journal is no place for a list
        self._rig.remark(JOURNALLED_AS, event)
        if isinstance(event, Ended):
            self._step(f"SR{event.answer.request.srv} {event.answer.outcome}")
        elif isinstance(event, Applied):
            self._step(type(event.event).__name__)
        elif isinstance(event, LostOnTheWan):
            self._step(f"{type(event.what).__name__} lost on the WAN")

    def joined(self, eui64: int) -> None:
        """Take that a device is on the hub's HAN: the hub says so, and the Inventory is told, once."""
        hub = self._rig.hub.eui64
        if eui64 not in self.inventory or hub not in self.inventory:
            return
        device = self.inventory.device(eui64)
        waiting = (device.status_before_suspension or device.status) in (
            DeviceStatus.PENDING,
            DeviceStatus.WHITELISTED,
        )
        if waiting or device.hub != hub:
            self.system.tell(DeviceJoined(hub, eui64))

    # --- Service Requests --------------------------------------------------------------------------------------------

    async def request(
        self, request: ServiceRequest, *, image: OtaImage | bytes | None = None, at: datetime | None = None
    ) -> Answer:
        """Send a Service Request and wait for what comes of it: see `DccSystem`.

        RigError for a command where the rig has no Supplier to send it.
        """
        command = isinstance(request, ActivateFirmware | ReadFirmwareVersion)
        if command and self._emulated is not None and supplier_of(self._rig.file) is None:
            raise RigError(f"{self._rig.file.path}: supplier: is missing: there is nobody to send commands")
        octets = build_image(image) if isinstance(image, OtaImage) else image
        return await self.system.request(request, image=octets, at=at)

    async def pre_notify(
        self,
        member: Member,
        *,
        smets: SmetsFamily | str | None = None,
        firmware_version: int | None = None,
        variant: PpmidVariant | str | None = None,
    ) -> Answer:
        """Send SR12.2 for a member: of the SMETS family and version of its profile, unless others are given."""
        return await self.request(self._pre_notification(member, smets, firmware_version, variant))

    async def update_firmware(self, image: OtaImage, *targets: Device, user: User | None = None) -> Answer:
        """Send SR11.1, or SR11.4 where the first target is a PPMID or a bridge, with an image for these devices.

        It is answered when the CSP has brought the image to the hub, or has not: what becomes of it there, alerts say.
        """
        self._requests += 1
        kind = UpdateFirmware if targets[0].device_kind in ACTIVATED_BY_COMMAND else UpdatePpmidFirmware
        request = kind(
            f"request {self._requests}",
            user or _user_for(targets[0]),
            image.version,
            tuple(target.eui64 for target in targets),
        )
        return await self.request(request, image=image)

    async def activate(
        self, image: OtaImage | bytes, *, on: Device, at: datetime | None = None, user: User | None = None
    ) -> Answer:
        """Send SR11.3 for an image, or for a Manufacturer Image Hash of 32 octets; `at` None: at once."""
        found = image if isinstance(image, bytes) else image_hash_in(build_image(image), with_trailer=True)
        return await self.request(ActivateFirmware(user or _user_for(on), on.eui64, found), at=at)

    async def read_version(self, of: Member, *, user: User | None = None) -> Answer:
        """Send SR11.2 to a member."""
        return await self.request(ReadFirmwareVersion(user or _user_for(of), of.eui64))

    async def read_version_of_gpf(self, *, user: User | None = None) -> Answer:
        """Send SR11.2 to the hub's GPF: what it has of its GSME."""
        return await self.request(ReadFirmwareVersion(user or User(UserRole.GS), self.gpf))

    @property
    def gpf(self) -> int:
        """The EUI-64 of the hub's GPF. RigError where nothing says it."""
        gpf = self._rig.file.gpf
        if gpf is None:
            raise RigError(f"{self._rig.file.path}: dcc.gpf: is missing, and the hub's own EUI-64 is, too")
        return gpf

    # --- faults of the WAN -------------------------------------------------------------------------------------------

    def lose_next_request(self, to: Member | None = None) -> None:
        """Lose the next image or command for a member, or for any, on the WAN. RigError for a manual DCC."""
        self._wan_of().lose_next_request(None if to is None else to.eui64)

    def lose_next_response(self, of: Member | None = None) -> None:
        """Lose the next response of a member, or of any, on the WAN. RigError for a manual DCC."""
        self._wan_of().lose_next_response(None if of is None else of.eui64)

    def _wan_of(self) -> Csp:
        if self._emulated is None:
            raise RigError(f"{self._rig.name} has a manual DCC: nobody here loses anything on its WAN")
        return self._emulated.csp

    # --- the premises ------------------------------------------------------------------------------------------------

    async def enrol(self, *members: Member) -> None:
        """Put the hub and these members, or all, in the Inventory as they are: those on the HAN commissioned.

        No Service Request goes down for it: it is how the premises is found. What the Inventory does not show (MP170)
        is left out, and so is what is in it already. RigError for a member that it does not take.
        """
        hub = self._rig.hub
        chosen = members or tuple(self._rig.members.values())
        for member in dict.fromkeys((hub, *chosen)):
            if member.eui64 in self.inventory or not self._found(member):
                continue
            if member is hub:
                self._commission(hub.eui64)
                self._commission(self.gpf)
            elif isinstance(member, Device) and member.joined:
                self.system.tell(DeviceLogUpdated(hub.eui64, member.eui64, added=True))
                self.system.tell(DeviceJoined(hub.eui64, member.eui64))
                self._commission(member.eui64)
        self._step("enrolment")

    def _found(self, member: Member) -> bool:
        """Put a member in the Inventory as Pending; whether that shows it."""
        verdict = self.inventory.apply(self._pre_notification(member, None, None, None), self.now())[0]
        if not isinstance(verdict, Refused):
            return True
        if verdict.rule in _HIDING:
            return False
        raise RigError(f"{member.name} cannot be enrolled: {verdict.reason} ({verdict.rule})")

    def _commission(self, eui64: int) -> None:
        self.system.tell(DeviceCommissioned(eui64))

    def _pre_notification(
        self,
        member: Member,
        smets: SmetsFamily | str | None,
        firmware_version: int | None,
        variant: PpmidVariant | str | None,
    ) -> PreNotifyDevice:
        profile, kind = member.profile, type_of(member)
        if variant is None and self.inventory.options.mp170 is not Mp170.OFF and kind is DeviceType.PPMID:
            variant = profile.bridge if isinstance(profile, BridgeProfile) else PpmidVariant.PPMID
        hub = self._rig.hub.profile
        assert isinstance(hub, HubProfile)
        family = hub.smets
        if isinstance(profile, PpmidProfile) and profile.smets != "dual":
            family = profile.smets
        if firmware_version is None and kind is not DeviceType.IHD:
            firmware_version = _running(member)
        return PreNotifyDevice(
            User(UserRole.IS),
            member.eui64,
            kind,
            profile.manufacturer_name,
            profile.model,
            SmetsFamily(smets or family),
            firmware_version,
            None if variant is None else PpmidVariant(variant),
            self.gpf if kind is DeviceType.CHF else None,
        )

    # --- the CPL -----------------------------------------------------------------------------------------------------

    def list_image(self, image: OtaImage, *, target: Device) -> None:
        """Put an image on the CPL as an Active row of a device's model; of both families for a dual-mode PPMID."""
        trailer = target.device_kind in ACTIVATED_BY_COMMAND
        found = image_hash_in(build_image(image), with_trailer=trailer)
        self._publish(_rows_for(target, image.version, found))

    def withdraw(self, version: int, *, of: Member, smets: SmetsFamily | str | None = None) -> None:
        """Withdraw the CPL rows of a member's model and version, of one SMETS family or of all it has.

        LocalProtocolError where there are none.
        """
        profile = of.profile
        model = (profile.manufacturer_name, profile.model, version)
        chosen = [
            row
            for row in self._rows
            if (row.manufacturer, row.model, row.firmware_version) == model and smets in (None, row.smets)
        ]
        if not chosen:
            raise LocalProtocolError(
                f"the CPL has no {profile.manufacturer_name} {profile.model} {format_version(version)}"
            )
        self._publish(replace(row, status=CplStatus.WITHDRAWN) for row in chosen)

    def _publish_at_first(self, listed: Iterable[CplRow]) -> None:
        """Publish the rig file's CPL, and rows for what the members run: of these, what was kept is not undone."""
        known = {row.key: row for row in self._rows}
        own = (row for member in self._rig.members.values() for row in _rows_of(member))
        rows = [
            *(row for row in listed if known.get(row.key) != row),
            *(row for row in own if row.key not in known),
        ]
        if rows or not self.inventory.rows():
            self._publish(rows)

    def _publish(self, rows: Iterable[CplRow]) -> None:
        """Publish a CPL with these rows in it, each in place of one that is about the same."""
        table = {row.key: row for row in self._rows}
        table.update((row.key, row) for row in rows)
        self._rows = list(table.values())
        self.system.tell(CplLoaded(f"the CPL of {self._rig.name}", tuple(self._rows)))

    def _listed(self) -> tuple[CplRow, ...]:
        if self._settings.cpl is None:
            return ()
        from harness.smi.cpl import read_cpl  # spreadsheets are slow to load

        return read_cpl(self._settings.cpl).rows

    # --- divergence --------------------------------------------------------------------------------------------------

    async def divergence(self) -> tuple[Diverged, ...]:
        """Compare what each member of the Inventory really runs with what that says, and return where they differ.

        What the harness plays or emulates it sees into; others are asked over the HAN, and one that does not say it
        stays as it was. RemoteProtocolError for one that does not answer.
        """
        asked: dict[int, int] = {}
        for device in self._rig.devices:
            known = device.behaviour is not None or not isinstance(device.profile, UpgradableProfile)
            if known or device.eui64 not in self.inventory:
                continue
            by_console = device.settings.console is not None
            asked[device.eui64] = await (device.console_version() if by_console else device.version())
        self._step("a look at all", asked)
        return self._divergence.diverged

    def _step(self, after: str, asked: dict[int, int] | None = None) -> None:
        running = {
            device.eui64: device.behaviour.running_version
            for device in self._rig.devices
            if device.behaviour is not None and isinstance(device.profile, UpgradableProfile)
        }
        for news in self._divergence.step(running | (asked or {}), self.now(), after):
            self._rig.remark(JOURNALLED_AS, news)


def type_of(member: Member) -> DeviceType:
    """What the Inventory calls a member: a bridge is a PPMID."""
    return _TYPES[member.profile.role]


def _user_for(member: Member) -> User:
    return User(UserRole.GS if type_of(member) in _GAS else UserRole.IS)


def _running(member: Member) -> int:
    profile = member.profile
    if isinstance(profile, HubProfile):
        return profile.firmware_version
    assert isinstance(member, Device)
    return member.version_at_start if member.behaviour is None else member.behaviour.running_version


def _rows_of(member: Member) -> list[CplRow]:
    """The rows of what a member runs. Nobody has that image: the hash is of the model's name and version."""
    if type_of(member) is DeviceType.IHD:
        return []
    version = _running(member)
    name = f"{member.profile.manufacturer_name} {member.profile.model} {format_version(version)}"
    return _rows_for(member, version, hashlib.sha256(name.encode()).digest())


def _rows_for(member: Member, version: int, image_hash: bytes) -> list[CplRow]:
    profile, rig = member.profile, member.rig
    hub = rig.hub.profile
    assert isinstance(hub, HubProfile)
    families: tuple[SmetsFamily, ...] = (SmetsFamily(hub.smets),)
    if isinstance(profile, PpmidProfile):
        dual = profile.smets == "dual"
        families = tuple(SmetsFamily) if dual else (SmetsFamily(profile.smets),)
    hardware = profile.hardware_version if isinstance(profile, UpgradableProfile) else None
    return [
        CplRow(
            device_type=type_of(member),
            manufacturer=profile.manufacturer_name,
            model=profile.model,
            hardware_version=None if hardware is None else f"{hardware:04X}",
            firmware_version=version,
            smets=family,
            smets_version="1.2" if family is SmetsFamily.SMETS1 else "5.1",
            gbcs_version=hub.gbcs_version if family is SmetsFamily.SMETS2 else None,
            image_hash=image_hash,
            status=CplStatus.ACTIVE,
        )
        for family in families
    ]
