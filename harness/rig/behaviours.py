"""From a rig file's member to what it does: the behaviour that a node or a radio carries."""

from __future__ import annotations

import random
from typing import Any

from harness.errors import RigError
from harness.members.bridge import AltHanBridge
from harness.members.bridge_values import BridgeConfig
from harness.members.console import ConsoleDialect
from harness.members.defects import defective
from harness.members.device import HanDevice
from harness.members.device_log import DeviceLimits
from harness.members.device_values import DeviceConfig
from harness.members.firmware_values import TEST_BROKER, TEST_SUPPLIER, FirmwareConfig
from harness.members.hcalcs import Hcalcs
from harness.members.hub import Hub
from harness.members.hub_values import HubConfig
from harness.members.kinds import DeviceKind
from harness.members.meter import Esme, Gsme, GsmeConfig, MeterConfig
from harness.members.ppmid import Ihd, Ppmid
from harness.rig.credentials import credentials_of
from harness.rig.profile import (
    BridgeProfile,
    DeviceProfile,
    EsmeProfile,
    GsmeProfile,
    HubProfile,
    PpmidProfile,
    UpgradableProfile,
)
from harness.rig.schema import RigFile
from harness.rig.supplier import supplier_of
from harness.wire.certificates import Credentials
from harness.wire.ota_client_values import OtaClientConfig
from harness.wire.ota_server import LARGEST_BLOCK, LARGEST_BLOCK_SECURED, OtaServerConfig
from harness.wire.package import Bridge
from harness.wire.utc import UTC_2026

_DEVICES: dict[str, type[HanDevice]] = {
    "esme": Esme,
    "gsme": Gsme,
    "hcalcs": Hcalcs,
    "ppmid": Ppmid,
    "bridge": AltHanBridge,
    "ihd": Ihd,
}


def hub_of(file: RigFile) -> Hub:
    """Return what the hub of a rig does. RigError for a secured one without an EUI-64 for its certificate."""
    behaviour = defective(Hub, file.members[file.hub].defects)
    return behaviour(hub_config(file), _chance(file, file.hub))


def device_of(file: RigFile, name: str) -> HanDevice:
    """Return what a member that joins does."""
    behaviour = defective(_DEVICES[_device_profile(file, name).role], file.members[name].defects)
    return behaviour(device_config(file, name), _chance(file, name))


def hub_config(file: RigFile) -> HubConfig:
    """Return what the hub of a rig is."""
    name = file.hub
    profile, settings = file.profiles[name], file.members[name]
    assert isinstance(profile, HubProfile)  # that is what makes it the hub
    credentials: tuple[Credentials, ...] = ()
    if profile.secured:
        if settings.eui64 is None:
            raise RigError(
                f"{file.path}: members.{name}.eui64: is needed for the certificate of a secured hub"
            )
        credentials = credentials_of(file, name, settings.eui64)
    ota = profile.ota
    fits = LARGEST_BLOCK_SECURED if profile.secured else LARGEST_BLOCK
    return HubConfig(
        eui64=settings.eui64,
        wan_party=TEST_BROKER,
        ota=OtaServerConfig(
            utc_at_zero=UTC_2026,
            block_size=fits if ota.block_size is None else ota.block_size,
            block_period_ms=ota.block_period_ms,
            page_requests=ota.page_requests,
        ),
        manufacturer_name=profile.manufacturer_name,
        model=profile.model,
        endpoint=profile.endpoint,
        device=profile.device_id,
        secured=profile.secured,
        credentials=credentials,
        notifies=profile.notifies,
        firmware_version=profile.firmware_version,
        tunnels=profile.smets != "SMETS1",  # assumed: SMETS1 has no GBCS
        gbcs_version=profile.gbcs_version,
        ppmid_ota=profile.ppmid_ota,
        store=profile.store.policy(),
        limits=DeviceLimits(**profile.limits.model_dump()),
    )


def device_config(file: RigFile, name: str) -> DeviceConfig:
    """Return what a member that joins is, on this rig."""
    profile, settings = _device_profile(file, name), file.members[name]
    assert settings.eui64 is not None  # load_rig saw to it
    common: dict[str, Any] = {
        "firmware": _firmware(file, profile, settings.eui64),
        "running_version": firmware_at_start(file, name),
        "manufacturer_name": profile.manufacturer_name,
        "model": profile.model,
        "endpoint": profile.endpoint,
        "device": profile.device_id,
        "secured": profile.secured,
        "credentials": credentials_of(file, name, settings.eui64) if profile.secured else (),
        "console": ConsoleDialect(profile.console.version_command, profile.console.version_answer),
    }
    if isinstance(profile, UpgradableProfile):
        common["activation_seconds"] = profile.activation_seconds
        common["ota"] = OtaClientConfig(
            manufacturer=profile.manufacturer_code,
            image_type=profile.image_type,
            hardware_version=profile.hardware_version,
            # GBCS: a GSME asks when its hub's notification flag says so, and not of its own accord.
            unprompted=not isinstance(profile, GsmeProfile),
            **profile.ota.model_dump(),
        )
    if isinstance(profile, GsmeProfile):
        return GsmeConfig(**common, wake_interval=profile.wake_seconds)
    if isinstance(profile, EsmeProfile):
        return MeterConfig(**common)
    if isinstance(profile, BridgeProfile):
        feeder = None if settings.fed_by is None else file.members[settings.fed_by].eui64
        return BridgeConfig(
            **common,
            bridge=Bridge[profile.bridge],
            feeds=fed(file, name),
            fed_by=feeder,
            feeding_limit=profile.feed_seconds,
        )
    if isinstance(profile, PpmidProfile):
        # Assumed: what tells a SMETS1 system on the HAN is that nobody speaks GBCS there.
        common["tunnels"] = profile.smets != "SMETS1"
    return DeviceConfig(**common)


def _firmware(file: RigFile, profile: DeviceProfile, eui64: int) -> FirmwareConfig:
    supplier = supplier_of(file)
    upgradable = profile if isinstance(profile, UpgradableProfile) else None
    return FirmwareConfig(
        kind=DeviceKind(profile.role),
        eui64=eui64,
        manufacturer=profile.manufacturer_code,
        image_type=0 if upgradable is None else upgradable.image_type,
        hardware_version=None if upgradable is None else upgradable.hardware_version,
        supplier=None if supplier is None else supplier.public_key,
        supplier_id=TEST_SUPPLIER if supplier is None else supplier.eui64,
        utc_at_zero=UTC_2026,
    )


def fed(file: RigFile, name: str) -> dict[Bridge, int]:
    """Return the bridges that a bridge hands images to, in their order, with their EUI-64s."""
    feeds = {
        _bridge(file, other): settings.eui64 or 0
        for other, settings in file.members.items()
        if settings.fed_by == name
    }
    return dict(sorted(feeds.items()))


def firmware_at_start(file: RigFile, name: str) -> int:
    """Return the version that a member runs at first: the rig file's, or else its profile's."""
    version = file.members[name].firmware_version
    return _device_profile(file, name).firmware_version if version is None else version


def _bridge(file: RigFile, name: str) -> Bridge:
    profile = file.profiles[name]
    assert isinstance(profile, BridgeProfile)  # load_rig saw to it
    return Bridge[profile.bridge]


def _device_profile(file: RigFile, name: str) -> DeviceProfile:
    profile = file.profiles[name]
    assert isinstance(profile, DeviceProfile)  # whatever is no hub
    return profile


def _chance(file: RigFile, name: str) -> random.Random:
    """On a real HAN keys are not to be guessed; on an emulated one they shall be the same in every run.

    Each member has chances of its own, so that one member more on the bench changes nothing for the others.
    """
    return random.Random(f"{file.seed} {name}") if file.is_emulated else random.SystemRandom()
