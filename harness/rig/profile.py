"""Device profiles: what one model of a device is, in one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from harness.errors import LocalProtocolError, RigError
from harness.members.bridge_values import FEEDING_LIMIT
from harness.members.device_log import DeviceLimits
from harness.members.image_store_values import (
    DEFAULT_PRECEDENCE,
    SlotGroup,
    StorePolicy,
    Verdict,
    Victim,
)
from harness.members.kinds import DeviceKind
from harness.rig.document import check, nearest, read_document, shown
from harness.wire.ota_client_values import OtaClientConfig
from harness.wire.ota_server import OtaServerConfig

FOLDER_NAME = "device_profiles"

_CLIENT = OtaClientConfig(manufacturer=0, image_type=0)
_SERVER = OtaServerConfig()
_STORE = StorePolicy()
_LIMITS = DeviceLimits()
_PACKAGE = Path(__file__).resolve().parent.parent


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text


def _with_version(text: str) -> str:
    if text.count("{version}") != 1 or "{" in text.replace("{version}", ""):
        raise ValueError("must have {version} once, and no other braces")
    return text


def _one_line(text: str) -> str:
    if text != "".join(text.splitlines()):
        raise ValueError("must be one line")
    return text


Name = Annotated[str, AfterValidator(_not_empty)]
U16 = Annotated[int, Field(ge=0, le=0xFFFF)]
U32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
Count = Annotated[int, Field(ge=0)]
TargetKind = Literal["esme", "gsme", "hcalcs", "ppmid", "bridge"]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Kind = Literal["router", "end_device", "sleepy_end_device"]
SLEEPY = "sleepy_end_device"


class Strict(BaseModel):
    """A part of a file that people write: unknown keys refused, nothing converted, never changed once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)


class OtaClientSettings(Strict):
    """How a device behaves as a client of the OTA Upgrade cluster 0x0019 (ZCL 07-5123-08 11). Times in seconds.

    Keys and defaults are those of `OtaClientConfig`.
    """

    block_size: Annotated[int, Field(ge=1, le=255)] = Field(
        default=_CLIENT.block_size, description="Octets asked for in one block."
    )
    page_size: U16 = Field(
        default=_CLIENT.page_size, description="Octets asked for in one page; 0: block by block."
    )
    page_spacing_ms: U16 = Field(
        default=_CLIENT.page_spacing_ms, description="Milliseconds asked for between the blocks of a page."
    )
    keeps_block_period: bool = Field(
        default=_CLIENT.keeps_block_period, description="Whether it has the MinimumBlockPeriod attribute."
    )
    start_jitter: Seconds = Field(
        default=_CLIENT.start_jitter, description="The first query comes up to so long after it joined."
    )
    query_interval: PositiveSeconds = Field(
        default=_CLIENT.query_interval, description="Between queries that found nothing."
    )
    requery_delay: Seconds = Field(
        default=_CLIENT.requery_delay, description="From a download that was aborted to the next query."
    )
    response_timeout: PositiveSeconds = Field(
        default=_CLIENT.response_timeout, description="How long an answer is waited for."
    )
    back_off: Seconds = Field(default=_CLIENT.back_off, description="From a time-out to the next attempt.")
    error_threshold: Annotated[int, Field(ge=1)] = Field(
        default=_CLIENT.error_threshold, description="Failures in a row that abort a download."
    )
    longest_wait: PositiveSeconds = Field(
        default=_CLIENT.longest_wait, description="WAIT_FOR_DATA is obeyed for so long at most."
    )
    verify_seconds: Seconds = Field(
        default=_CLIENT.verify_seconds, description="How long it takes to check an image."
    )
    activation_delay: Seconds = Field(
        default=_CLIENT.activation_delay, description="An upgrade that is due now begins so much later."
    )
    end_retry: PositiveSeconds = Field(
        default=_CLIENT.end_retry, description="Between Upgrade End Requests that nobody answers."
    )
    wait_interval: PositiveSeconds = Field(
        default=_CLIENT.wait_interval, description="Between Upgrade End Requests while told to wait."
    )
    wait_threshold: Annotated[int, Field(ge=1)] = Field(
        default=_CLIENT.wait_threshold,
        description="Unanswered Upgrade End Requests before it upgrades anyway.",
    )
    upgrades_unanswered: bool = Field(
        default=_CLIENT.upgrades_unanswered, description="false: it never upgrades without an answer."
    )
    storage_limit: Annotated[int, Field(ge=1)] = Field(
        default=_CLIENT.storage_limit, description="Octets of the largest file that it has room for."
    )


class OtaServerSettings(Strict):
    """How a hub behaves as a server of the OTA Upgrade cluster. Keys and defaults are those of `OtaServerConfig`."""

    block_size: Annotated[int, Field(ge=1, le=255)] | None = Field(
        default=None, description="Octets given in one block at most; null: what fits a frame."
    )
    block_period_ms: U16 = Field(
        default=_SERVER.block_period_ms,
        description="The pace asked of clients, in milliseconds; 0: their own.",
    )
    page_requests: bool = Field(
        default=_SERVER.page_requests, description="Whether Image Page Requests are served."
    )


class _Profile(Strict):
    schema_: Literal["harness.profile/1"] = Field(alias="schema")
    manufacturer_name: Name = Field(description="The maker's name, as the Basic cluster reports it.")
    model: Name = Field(description="The model's name, as the Basic cluster reports it.")
    endpoint: Annotated[int, Field(ge=1, le=240)] = 1
    device_id: U16 = Field(description="The Smart Energy device id of the endpoint (ZSE table 5-13).")
    secured: bool = Field(
        default=False, description="Whether its Smart Energy clusters travel under the APS link key."
    )


class LimitSettings(Strict):
    """How many devices a hub has room for. Keys and defaults are those of `DeviceLimits`."""

    esme: Count = Field(default=_LIMITS.esme, description="Electricity meters.")
    gsme: Count = Field(default=_LIMITS.gsme, description="Gas meters.")
    type_1: Count = Field(default=_LIMITS.type_1, description="PPMIDs, bridges and HCALCSs.")
    type_2: Count = Field(default=_LIMITS.type_2, description="IHDs.")
    ppmid: Count | None = Field(
        default=_LIMITS.ppmid, description="PPMIDs and bridges; null: as many as Type 1 devices."
    )
    total: Count = Field(default=_LIMITS.total, description="Entries of the Device Log in all.")
    gpf_takes_entry: bool = Field(
        default=_LIMITS.gpf_takes_entry, description="Whether the hub's own GPF takes one of those entries."
    )
    historic: Count = Field(default=_LIMITS.historic, description="Entries of the historic log.")


class SlotGroupSettings(Strict):
    """Kinds of device whose images share some slots of the store."""

    kinds: tuple[TargetKind, ...] = Field(min_length=1)
    slots: Annotated[int, Field(ge=1)] = 1


class PrecedenceRow(Strict):
    """What an arriving image does to one that waits, where both share a slot."""

    arriving: TargetKind
    waiting: TargetKind
    verdict: Literal["overwrite", "overwrite_waiting", "refuse"]


class StoreSettings(Strict):
    """The hub's store of waiting images: all that no public document fixes. Keys and defaults are `StorePolicy`'s."""

    groups: tuple[SlotGroupSettings, ...] | None = Field(
        default=None,
        description="Who shares slots; absent: GSME, HCALCS, PPMID and bridges one, the ESME one.",
    )
    precedence: tuple[PrecedenceRow, ...] = Field(
        default=(),
        description="Rows that differ from the standing table (GSME over all, the others each other).",
    )
    victim: Literal["oldest", "newest"] = Field(
        default=_STORE.victim.value, description="Which of several images that may be overwritten is."
    )
    same_target: Literal["overwrite", "overwrite_waiting", "refuse"] = Field(
        default=_STORE.same_target.value, description="What a second image for one device does to the first."
    )
    same_target_newer_only: bool = Field(
        default=_STORE.same_target_newer_only,
        description="true: only a newer version replaces one that waits.",
    )
    force_replace_forces: bool = Field(
        default=_STORE.force_replace_forces,
        description="true: a Force Replace octet other than 0 overrules the table.",
    )
    trailer_kinds: tuple[TargetKind, ...] | None = Field(
        default=None, description="Whose images end in a signature; absent: ESME, GSME and HCALCS."
    )
    checks_trailer: bool = Field(
        default=_STORE.checks_trailer,
        description="true: an image that lacks its signature is refused by the hub.",
    )
    checks_hardware: bool = Field(
        default=_STORE.checks_hardware, description="Whether the hub compares the header's hardware range."
    )
    size_limit: Annotated[int, Field(ge=1)] | None = Field(
        default=_STORE.size_limit, description="Octets of the largest file; null: no limit."
    )
    retention_seconds: PositiveSeconds | None = Field(
        default=_STORE.retention_seconds, description="How long an image waits; null: for ever."
    )
    transfer_attempts: Annotated[int, Field(ge=1)] | None = Field(
        default=_STORE.transfer_attempts, description="Failed transfers until it is given up; null: never."
    )
    expires_during_transfer: bool = Field(
        default=_STORE.expires_during_transfer,
        description="Whether retention ends a transfer that is under way.",
    )
    alerts_refusals: bool = Field(
        default=_STORE.alerts_refusals,
        description="Whether an image that is not stored is alerted as discarded.",
    )

    def policy(self) -> StorePolicy:
        """The policy that these settings describe. LocalProtocolError where they leave a case open."""
        settings = self.model_dump(exclude={"groups", "precedence", "victim", "same_target", "trailer_kinds"})
        groups = _STORE.groups
        if self.groups is not None:
            groups = tuple(
                SlotGroup(tuple(DeviceKind(kind) for kind in group.kinds), group.slots)
                for group in self.groups
            )
        trailers = _STORE.trailer_kinds
        if self.trailer_kinds is not None:
            trailers = tuple(DeviceKind(kind) for kind in self.trailer_kinds)
        rows = {
            (DeviceKind(row.arriving), DeviceKind(row.waiting)): Verdict(row.verdict)
            for row in self.precedence
        }
        return StorePolicy(
            groups=groups,
            precedence={**DEFAULT_PRECEDENCE, **rows},
            victim=Victim(self.victim),
            same_target=Verdict(self.same_target),
            trailer_kinds=trailers,
            **settings,
        )


class HubProfile(_Profile):
    """A Communications Hub: coordinator, trust centre and OTA server of its HAN."""

    role: Literal["hub"]
    firmware_version: U32 = Field(default=0x01000000, description="The version that the hub itself runs.")
    smets: Literal["SMETS1", "SMETS2"] = Field(default="SMETS2", description="The family of its system.")
    gbcs_version: Name = Field(default="4.1", description="The GBCS version of its firmware.")
    ppmid_ota: bool = Field(
        default=True,
        description="Whether its firmware has SECMP0007: images for PPMIDs, bridges and HCALCSs.",
    )
    bands: tuple[Literal["2400 MHz", "868 MHz"], ...] = Field(
        default=("2400 MHz",), description="Its radio bands, on paper: the emulated air has 2400 MHz only."
    )
    notifies: bool = Field(
        default=True, description="Whether it tells a device of a waiting image by Image Notify."
    )
    ota: OtaServerSettings = OtaServerSettings()
    store: StoreSettings = StoreSettings()
    limits: LimitSettings = LimitSettings()


class ConsoleSettings(Strict):
    """The dialect of a device's serial console, one line a command."""

    baud: Annotated[int, Field(ge=1200, le=10_000_000)] = 115200
    version_command: Annotated[Name, AfterValidator(_one_line)] = Field(
        default="version", description="What asks for the firmware version."
    )
    version_answer: Annotated[str, AfterValidator(_with_version), AfterValidator(_one_line)] = Field(
        default="firmware {version}",
        description="The line that answers; {version} stands for 8 hexadecimal digits.",
    )


class DeviceProfile(_Profile):
    """A device that joins the HAN of a hub."""

    role: Literal["esme", "gsme", "hcalcs", "ppmid", "bridge", "ihd"]
    manufacturer_code: U16 = Field(description="The code that the Zigbee alliance gave to the maker.")
    firmware_version: U32 = Field(
        description="The version that a member runs unless the rig file says another."
    )
    kind: Kind = Field(description="Its part in the network.")
    poll_seconds: PositiveSeconds | None = Field(
        default=None,
        description="Between two polls of its parent; for a sleepy_end_device, and needed there.",
    )
    console: ConsoleSettings = ConsoleSettings()


class UpgradableProfile(DeviceProfile):
    """A device that takes images over the HAN."""

    image_type: U16 = Field(description="The OTA image type that the device takes.")
    hardware_version: U16 = Field(description="Version in the high octet, revision in the low one.")
    activation_seconds: Seconds = Field(
        default=30.0, description="How long the device is dark while it changes to a new image."
    )
    ota: OtaClientSettings = OtaClientSettings()


class EsmeProfile(UpgradableProfile):
    """An electricity meter."""

    role: Literal["esme"]


class GsmeProfile(UpgradableProfile):
    """A gas meter, which sleeps."""

    role: Literal["gsme"]
    wake_seconds: PositiveSeconds = Field(
        default=1800.0, description="From one look at the hub's notification flags to the next."
    )


class HcalcsProfile(UpgradableProfile):
    """A HAN Connected Auxiliary Load Control Switch."""

    role: Literal["hcalcs"]


class PpmidProfile(UpgradableProfile):
    """A Prepayment Meter Interface Device."""

    role: Literal["ppmid"]
    smets: Literal["SMETS1", "SMETS2", "dual"] = Field(
        default="SMETS2", description="The family of systems that it can be part of; dual: either (MP202)."
    )


class BridgeProfile(UpgradableProfile):
    """An Alt HAN bridge, which joins as a variant of the PPMID (MP170)."""

    role: Literal["bridge"]
    bridge: Literal["B1", "B2", "B3", "B4"] = Field(description="Which of the four it is.")
    feed_seconds: PositiveSeconds = Field(
        default=FEEDING_LIMIT, description="How long the bridges that it feeds have to run their images."
    )


class IhdProfile(DeviceProfile):
    """An In-Home Display: it takes no images over the HAN."""

    role: Literal["ihd"]


Profile = HubProfile | PpmidProfile | EsmeProfile | GsmeProfile | HcalcsProfile | BridgeProfile | IhdProfile
PROFILES: dict[str, type[Profile]] = {
    "hub": HubProfile,
    "ppmid": PpmidProfile,
    "esme": EsmeProfile,
    "gsme": GsmeProfile,
    "hcalcs": HcalcsProfile,
    "bridge": BridgeProfile,
    "ihd": IhdProfile,
}


def profile_folders(rig_folder: Path) -> tuple[Path, ...]:
    """Return where profiles are looked for: beside the rig, one folder up, and those that come with the harness.

    The last are inside an installed package, or at the top of a source checkout.
    """
    candidates = (
        rig_folder / FOLDER_NAME,
        rig_folder.parent / FOLDER_NAME,
        _PACKAGE / FOLDER_NAME,
        _PACKAGE.parent / FOLDER_NAME,
    )
    return tuple(dict.fromkeys(folder for folder in candidates if folder.is_dir()))


def load_profile(name: str, search: Sequence[Path]) -> Profile:
    """Read the profile `name` from the first folder of `search` that has it.

    RigError for a name that no folder knows, with the nearest that one does, and for a wrong profile, with file, line
    and key.
    """
    for folder in search:
        path = folder / f"{name}.yaml"
        if path.is_file():
            return read_profile(path)
    known = sorted(path.stem for folder in search for path in folder.glob("*.yaml"))
    raise RigError(f"no device profile {name!r}" + nearest(name, dict.fromkeys(known)))


def read_profile(path: Path) -> Profile:
    """Read one profile; RigError, a line for each problem, for one that is wrong."""
    document = read_document(path)
    role = document.value.get("role") if isinstance(document.value, dict) else None
    if not isinstance(role, str) or role not in PROFILES:
        problem = "is missing" if role is None else f"no such role: {shown(role)}"
        document.refuse([(("role",), problem + nearest(str(role), PROFILES))])
    profile = check(document, PROFILES[role])
    if isinstance(profile, DeviceProfile) and (profile.poll_seconds is not None) != (profile.kind == SLEEPY):
        document.refuse(
            [(("poll_seconds",), f"{SLEEPY} has one and no other kind does; kind is {profile.kind}")]
        )
    if isinstance(profile, HubProfile):
        try:
            profile.store.policy()
        except LocalProtocolError as error:
            document.refuse([(("store",), str(error))])
    return profile


def profile_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a profile file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Device profile of the HAN harness",
        **TypeAdapter(Annotated[Profile, Field(discriminator="role")]).json_schema(),
    }
