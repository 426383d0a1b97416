"""Device profiles: what one model of a device is, in one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from harness.errors import RigError
from harness.rig.document import check, nearest, read_document, shown
from harness.wire.ota_client_values import OtaClientConfig
from harness.wire.ota_server import OtaServerConfig

FOLDER_NAME = "device_profiles"

_CLIENT = OtaClientConfig(manufacturer=0, image_type=0)
_SERVER = OtaServerConfig()
_PACKAGE = Path(__file__).resolve().parent.parent


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text


Name = Annotated[str, AfterValidator(_not_empty)]
U16 = Annotated[int, Field(ge=0, le=0xFFFF)]
U32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
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


class HubProfile(_Profile):
    """A Communications Hub: coordinator, trust centre and OTA server of its HAN."""

    role: Literal["hub"]
    notifies: bool = Field(
        default=True, description="Whether it tells a device of a waiting image by Image Notify."
    )
    ota: OtaServerSettings = OtaServerSettings()


class PpmidProfile(_Profile):
    """A Prepayment Meter Interface Device."""

    role: Literal["ppmid"]
    manufacturer_code: U16 = Field(description="The code that the Zigbee alliance gave to the maker.")
    image_type: U16 = Field(description="The OTA image type that the device takes.")
    hardware_version: U16 = Field(description="Version in the high octet, revision in the low one.")
    firmware_version: U32 = Field(
        description="The version that a member runs unless the rig file says another."
    )
    activation_seconds: Seconds = Field(
        default=30.0, description="How long the device is dark while it changes to a new image."
    )
    kind: Kind = Field(description="Its part in the network.")
    poll_seconds: PositiveSeconds | None = Field(
        default=None,
        description="Between two polls of its parent; for a sleepy_end_device, and needed there.",
    )
    ota: OtaClientSettings = OtaClientSettings()


Profile = HubProfile | PpmidProfile
PROFILES: dict[str, type[HubProfile] | type[PpmidProfile]] = {"hub": HubProfile, "ppmid": PpmidProfile}


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
    if isinstance(profile, PpmidProfile) and (profile.poll_seconds is not None) != (profile.kind == SLEEPY):
        document.refuse(
            [(("poll_seconds",), f"{SLEEPY} has one and no other kind does; kind is {profile.kind}")]
        )
    return profile


def profile_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a profile file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Device profile of the HAN harness",
        **TypeAdapter(Annotated[Profile, Field(discriminator="role")]).json_schema(),
    }
