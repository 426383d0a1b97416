"""Each standing profile gives the behaviour that its YAML describes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from harness.members.bridge import AltHanBridge
from harness.members.hcalcs import Hcalcs
from harness.members.kinds import DeviceKind
from harness.members.meter import Esme, Gsme
from harness.members.ppmid import Ihd, Ppmid
from harness.rig.behaviours import device_config, device_of, fed, hub_config, hub_of
from harness.rig.schema import load_rig
from harness.wire.package import Bridge
from tests.unit.served import REPOSITORY

CLASSES = {"esme": Esme, "gsme": Gsme, "hcalcs": Hcalcs, "ppmid": Ppmid, "bridge": AltHanBridge, "ihd": Ihd}
PROFILES = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((REPOSITORY / "device_profiles").glob("*.yaml"))
}
DEVICES = [name for name, content in PROFILES.items() if content["role"] != "hub"]


@pytest.fixture
def bench(tmp_path: Any) -> Any:
    """Return a function that gives a rig of a hub and one member of a profile, named "it"."""

    def make(profile: str, **settings: Any) -> Any:
        content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text())
        member = content["members"]["ppmid"] | {"profile": profile} | settings
        content["members"] = {"hub": content["members"]["hub"], "it": member}
        path = tmp_path / "rig.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load_rig(path)

    return make


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_what_its_profile_says(bench: Any, name: str) -> None:
    """Class, names, codes, versions and what it does as an OTA client: each key of the file is in the behaviour."""
    said, file = PROFILES[name], bench(name)
    config = device_config(file, "it")
    assert type(device_of(file, "it")) is CLASSES[said["role"]]
    firmware = config.firmware
    assert (config.manufacturer_name, config.model) == (said["manufacturer_name"], said["model"])
    assert (config.endpoint, config.device, config.secured) == (
        said["endpoint"],
        said["device_id"],
        said["secured"],
    )
    assert config.running_version == said["firmware_version"]
    assert firmware.kind is DeviceKind(said["role"])
    assert (firmware.eui64, firmware.manufacturer) == (0x000D6F000B7A1102, said["manufacturer_code"])
    assert firmware.supplier is not None
    assert config.credentials
    if "image_type" not in said:
        assert config.ota is None
        return
    assert config.activation_seconds == said["activation_seconds"]
    assert (firmware.image_type, firmware.hardware_version) == (said["image_type"], said["hardware_version"])
    assert config.ota is not None
    assert (config.ota.manufacturer, config.ota.image_type, config.ota.hardware_version) == (
        said["manufacturer_code"],
        said["image_type"],
        said["hardware_version"],
    )
    for key, value in said["ota"].items():
        assert getattr(config.ota, key) == value
    assert config.ota.unprompted is (said["role"] != "gsme")
    if "wake_seconds" in said:
        assert config.wake_interval == said["wake_seconds"]  # type: ignore[attr-defined]
    if "bridge" in said:
        assert config.bridge is Bridge[said["bridge"]]  # type: ignore[attr-defined]
    assert config.tunnels is (said.get("smets") != "SMETS1")


def test_the_version_of_the_rig_file_goes_before_the_profiles(bench: Any) -> None:
    """One member of a model may have been upgraded before."""
    assert device_config(bench("esme", firmware_version=0x0200_0000), "it").running_version == 0x0200_0000


def test_the_hub_is_what_its_profile_says(bench: Any) -> None:
    """The standing hub, with its EUI-64 and a certificate of its own."""
    file = bench("ppmid")
    said, config = PROFILES["hub"], hub_config(file)
    assert (config.manufacturer_name, config.model, config.endpoint, config.device, config.secured) == (
        said["manufacturer_name"],
        said["model"],
        said["endpoint"],
        said["device_id"],
        said["secured"],
    )
    assert config.eui64 == 0x000D6F000A9069E7
    assert config.tunnels
    assert config.ppmid_ota
    assert hub_of(file).config == config


def test_bridges_feed_those_that_name_them() -> None:
    """Option A: B3 feeds B4. Option B: B1 feeds all others, in their order, and each knows by whom it is fed."""
    for rig, feeder, wanted in (
        ("emulated-devices", "b3", ["b4"]),
        ("emulated-option-b", "b1", ["b2", "b3", "b4"]),
    ):
        file = load_rig(REPOSITORY / "rigs" / f"{rig}.yaml")
        assert fed(file, feeder) == {Bridge[name.upper()]: file.members[name].eui64 for name in wanted}
        assert device_config(file, feeder).feeds == fed(file, feeder)  # type: ignore[attr-defined]
        for name in wanted:
            assert device_config(file, name).fed_by == file.members[feeder].eui64  # type: ignore[attr-defined]
