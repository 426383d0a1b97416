"""The rig file: what is on a bench, as its YAML says it, checked before anything is powered."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from harness.errors import RigError
from harness.members.defects import DEFECTS
from harness.rig.dcc_settings import DccSettings, wrong_in_dcc
from harness.rig.document import MISSING, Problem, check, nearest, read_document, shown
from harness.rig.fields import (
    Eui64,
    EzspVersion,
    InstallCode,
    MemberName,
    NetworkKey,
    Share,
    StateFile,
    Tag,
    TagValue,
)
from harness.rig.profile import (
    SLEEPY,
    BridgeProfile,
    DeviceProfile,
    HubProfile,
    Name,
    Profile,
    Strict,
    load_profile,
    profile_folders,
)
from harness.wire.mac import format_eui64

EMULATED = "emulated://"

_SECRETS = frozenset({"install_code", "network_key", "database"})


class NetworkSettings(Strict):
    """The HAN that the rig's hub runs."""

    channel: Annotated[int, Field(ge=11, le=26)] = Field(description="2.4 GHz channel.")
    pan_id: Annotated[int, Field(ge=0, le=0xFFFE)]
    extended_pan_id: Eui64 | None = Field(
        default=None, description="Absent: the hub's EUI-64, as on every GB HAN."
    )
    network_key: NetworkKey | None = Field(
        default=None,
        repr=False,
        description="32 hexadecimal digits. Absent on an emulated rig: a test key made from the seed.",
    )


class Link(Strict):
    """One path through the emulated air, the same both ways."""

    between: tuple[MemberName, MemberName] = Field(description="Two members.")
    loss: Share | None = Field(default=None, description="Share of frames lost; absent: the air's.")
    delay_ms: Annotated[float, Field(ge=0)] = 0.0
    heard: bool = Field(default=True, description="false: the two do not hear each other at all.")


class AirSettings(Strict):
    """What the emulated air does to frames."""

    loss: Share = Field(default=0.0, description="Share of frames lost on each link.")
    links: tuple[Link, ...] = Field(default=(), description="Links that differ from the rest.")


class NcpSettings(Strict):
    """The emulated stick behind an emulated:// radio."""

    ezsp: EzspVersion = Field(default=13, description="EZSP version of its firmware.")
    baud: Annotated[int, Field(ge=1200, le=10_000_000)] | None = Field(
        default=None, description="Bits per second of its serial line; absent: bytes arrive at once."
    )
    state: StateFile | None = Field(
        default=None, description="File that keeps its tokens over a power cycle, relative to the rig file."
    )


class MemberSettings(Strict):
    """One party of the HAN."""

    by: Literal["equipment", "emulation", "radio"] = Field(
        description="equipment: a real thing on the bench; emulation: a node on the emulated air; "
        "radio: played by the harness through an NCP."
    )
    profile: str = Field(description="Name of its device profile: device_profiles/NAME.yaml.")
    eui64: Eui64 | None = Field(
        default=None,
        description="Needed, except where a real radio brings its own and its profile is not secured.",
    )
    install_code: InstallCode | None = Field(
        default=None,
        repr=False,
        description="Installation code of 6, 8, 12 or 16 octets with its CRC, in hexadecimal digits.",
    )
    credentials: StateFile | None = Field(
        default=None,
        description="File with its certificates and private keys, relative to the rig file. Absent: the rig's test CA "
        "makes them. Equipment has its own.",
    )
    under_test: bool = Field(default=False, description="true: this member is judged.")
    radio: str | None = Field(
        default=None,
        description="Serial port or URL of the NCP that plays it: emulated://NAME is an emulated one.",
    )
    ncp: NcpSettings | None = Field(default=None, description="The emulated NCP of an emulated:// radio.")
    parent: MemberName | None = Field(
        default=None, description="The router that it joins through; absent: any."
    )
    poll_seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Between two polls of a sleepy member; absent: its profile's."
    )
    firmware_version: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = Field(
        default=None, description="What it runs at first; absent: its profile's."
    )
    fed_by: MemberName | None = Field(
        default=None, description="The bridge that hands a bridge its images (MP170); absent: the hub does."
    )
    console: str | None = Field(
        default=None,
        description="Serial port or URL of the console of a member by equipment; an emulated one has its own.",
    )
    defects: tuple[str, ...] = Field(
        default=(),
        description="Deliberate faults of a member by emulation, which the tests must see (members/defects.py).",
    )

    @property
    def is_emulated(self) -> bool:
        """Whether the member is on the emulated air, as a node or through an emulated NCP."""
        return self.by == "emulation" or (self.radio or "").startswith(EMULATED)


class SupplierSettings(Strict):
    """The Supplier whose signature the meters and load switches of a real bench ask for."""

    eui64: Eui64 = Field(description="Its EUI-64, as commands name their originator.")
    certificate: StateFile = Field(
        description="Its signing certificate, PEM or DER, relative to the rig file."
    )
    private_key: StateFile = Field(
        description="The private key to it, PEM or DER; it never leaves the bench."
    )


class RigFile(Strict):
    """A checked rig file. `load_rig` makes them; members stand in the order of the file."""

    schema_: Literal["harness.rig/1"] = Field(alias="schema")
    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Decides every chance on the emulated air."
    )
    tags: dict[Tag, TagValue] = Field(default={}, description="What a lab sorts its benches by.")
    network: NetworkSettings
    air: AirSettings | None = Field(default=None, description="For an emulated rig.")
    authority: StateFile | None = Field(
        default=None,
        description="File of the test CA (harness ca new), relative to the rig file. Absent on an emulated rig: "
        "a CA made from the seed.",
    )
    supplier: SupplierSettings | None = Field(
        default=None,
        description="Who signs images and commands. Absent on an emulated rig: a test Supplier made from the seed.",
    )
    dcc: DccSettings | None = Field(
        default=None,
        description="What carries Service Requests. Absent: an emulated DCC, where this bench has a way "
        "to its hub's WAN side.",
    )
    members: dict[MemberName, MemberSettings] = Field(min_length=1)

    _path: Path = PrivateAttr(default=Path())
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file itself."""
        return self._path

    @property
    def profiles(self) -> dict[str, Profile]:
        """The device profile of each member, by the member's name."""
        return self._profiles

    @property
    def hub(self) -> str:
        """The name of the one member that is the Communications Hub."""
        return next(name for name, profile in self._profiles.items() if profile.role == "hub")

    @property
    def is_emulated(self) -> bool:
        """Whether the rig is emulated, and so runs on virtual time: all members are on the emulated air, or none."""
        return self.members[self.hub].is_emulated

    @property
    def defects(self) -> tuple[str, ...]:
        """The deliberate faults of its members, each as a sentence for a reader."""
        return tuple(
            f"{name} has {defect}: {DEFECTS[defect].does}"
            for name, member in self.members.items()
            for defect in member.defects
        )

    @property
    def gpf(self) -> int | None:
        """The EUI-64 of the hub's GPF: the file's, or else, assumed, the one after the hub's own."""
        own = self.members[self.hub].eui64
        if self.dcc is not None and self.dcc.gpf is not None:
            return self.dcc.gpf
        return None if own is None else own + 1

    @property
    def carries_requests(self) -> Literal["emulated", "manual"] | None:
        """What carries Service Requests on this rig; None: nothing does, its hub's WAN side is not the harness'."""
        if self.dcc is not None:
            return self.dcc.by
        return None if self.members[self.hub].by == "equipment" else "emulated"

    @property
    def extended_pan_id(self) -> int | None:
        """The extended PAN id: the hub's EUI-64 unless the file says another; None: the real radio decides."""
        return self.network.extended_pan_id or self.members[self.hub].eui64

    @property
    def network_key(self) -> bytes:
        """The network key of the file, or the test key that belongs to its seed."""
        if self.network.network_key is not None:
            return self.network.network_key
        return hashlib.sha256(f"test network key {self.seed}".encode()).digest()[:16]


def load_rig(path: str | Path) -> RigFile:
    """Read and check a rig file with the profiles that it names.

    RigError has one sentence on one line for each problem found: file, line, key, value, and the nearest right key for
    one misspelt. Keys and install codes are never repeated.
    """
    document = read_document(Path(path))
    rig = check(document, RigFile, secrets=_SECRETS)
    rig._path = document.path
    problems = list(_resolve_profiles(rig))
    if not problems:
        problems = list(_contradictions(rig))
    if problems:
        document.refuse(problems)
    return rig


def rig_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a rig file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RigFile.model_json_schema(),
        "title": "Rig file of the HAN harness",
    }


def _resolve_profiles(rig: RigFile) -> Iterator[Problem]:
    folders = profile_folders(rig.path.parent)
    read: dict[str, Profile] = {}
    for name, member in rig.members.items():
        try:
            if member.profile not in read:
                read[member.profile] = load_profile(member.profile, folders)
            rig.profiles[name] = read[member.profile]
        except RigError as error:
            yield ("members", name, "profile"), str(error)


def _contradictions(rig: RigFile) -> Iterator[Problem]:
    hubs = [name for name, profile in rig.profiles.items() if isinstance(profile, HubProfile)]
    if len(hubs) != 1:
        yield ("members",), f"a rig has exactly one hub, this one has {', '.join(hubs) or 'none'}"
        return
    hub = rig.members[rig.hub]
    for name, member in rig.members.items():
        for key, problem in itertools.chain(
            _radio(member), _identity(member, rig.profiles[name], hub), _manner(member, rig.profiles[name])
        ):
            yield ("members", name, key), problem
        if member.is_emulated != hub.is_emulated and (hub.radio or hub.by != "radio"):
            kinds = ("emulated", "real") if member.is_emulated else ("real", "emulated")
            yield (
                ("members", name, "by"),
                f"is {kinds[0]}, but the hub is {kinds[1]}: they cannot hear each other",
            )
        if member.parent is not None:
            yield from _parent(rig, name, member.parent)
        if member.fed_by is not None:
            yield from _feeder(rig, name, member.fed_by)
    real = not any(member.is_emulated for member in rig.members.values())
    if real and hub.radio and rig.network.network_key is None:
        yield ("network", "network_key"), "is missing: on a real radio a key made from the seed is no secret"
    if real and rig.authority is None:
        for name, member in rig.members.items():
            if member.by != "equipment" and rig.profiles[name].secured and member.credentials is None:
                problem = (
                    "is missing: the member is secured, and the rig has no authority (harness ca new FILE)"
                )
                yield ("members", name, "credentials"), problem
    yield from _duplicates(rig)
    if rig.dcc is not None:
        own = [member.eui64 for member in rig.members.values()]
        for key, problem in wrong_in_dcc(rig.dcc, emulated=rig.is_emulated, hub_by=hub.by, eui64s=own):
            yield ("dcc", key), problem
    if rig.air is not None:
        yield from _air(rig, rig.air)


def _radio(member: MemberSettings) -> Iterator[tuple[str, str]]:
    if member.by != "radio":
        if member.radio is not None:
            yield "radio", f"is for a member by radio, not by {member.by}"
    elif not member.radio:
        yield "radio", "is missing: the serial port or URL of the NCP"
    elif member.radio.startswith(EMULATED) and not re.fullmatch(
        r"[a-z0-9_-]+", member.radio[len(EMULATED) :]
    ):
        yield "radio", f"must be {EMULATED}NAME, not {shown(member.radio)}"
    if member.ncp is not None and not (member.by == "radio" and member.is_emulated):
        yield "ncp", f"is for an {EMULATED} radio"


def _identity(member: MemberSettings, profile: Profile, hub: MemberSettings) -> Iterator[tuple[str, str]]:
    if member.eui64 is None and (member.by != "radio" or member.is_emulated):
        yield "eui64", MISSING
    elif member.eui64 is None and profile.secured and member.by == "radio":
        yield "eui64", "is missing: the certificate of a secured member names it"
    if profile.role == "hub":
        if member.install_code is not None:
            yield "install_code", "a hub forms its HAN and joins none"
    elif member.install_code is None and (member.by, hub.by) != ("equipment", "equipment"):
        yield "install_code", "is missing: the harness needs it for one end of the join"


def _manner(member: MemberSettings, profile: Profile) -> Iterator[tuple[str, str]]:
    sleepy = isinstance(profile, DeviceProfile) and profile.kind == SLEEPY
    if member.poll_seconds is not None and not sleepy:
        yield "poll_seconds", f"is for a {SLEEPY}, and the profile {member.profile} is none"
    if member.firmware_version is not None and profile.role == "hub":
        yield "firmware_version", "is for a device that takes images"
    if member.by == "equipment":
        for key in ("poll_seconds", "firmware_version", "credentials"):
            if getattr(member, key) is not None:
                yield key, "equipment decides this by itself"
    elif member.console is not None:
        yield "console", f"is for a member by equipment, not by {member.by}"
    if member.parent is not None and member.by != "emulation":
        yield "parent", f"is for a member by emulation, not by {member.by}"
    if member.defects and member.by != "emulation":
        yield "defects", f"are for a member by emulation, not by {member.by}"
    for index, defect in enumerate(member.defects):
        if defect not in DEFECTS:
            yield "defects", f"no such defect: {defect}" + nearest(defect, DEFECTS)
        elif profile.role not in DEFECTS[defect].roles:
            roles = ", ".join(DEFECTS[defect].roles)
            yield (
                "defects",
                f"{defect} is a defect of {roles}, and the role of {member.profile} is {profile.role}",
            )
        elif defect in member.defects[:index]:
            yield "defects", f"{defect} is there twice"


def _parent(rig: RigFile, name: str, parent: str) -> Iterator[Problem]:
    location = ("members", name, "parent")
    if name == rig.hub:
        yield location, "a hub has none"
        return
    above = [name]
    following: str | None = parent
    while following is not None:
        if following not in rig.members:
            # A wrong name further up is said there.
            if following == parent:
                yield location, f"no such member: {parent}" + nearest(parent, rig.members)
            return
        if following in above:
            yield location, f"never comes to the hub: {' -> '.join((*above, following))}"
            return
        above.append(following)
        following = rig.members[following].parent
    profile = rig.profiles[parent]
    if isinstance(profile, DeviceProfile) and profile.kind != "router":
        yield location, f"{parent} has no children: its kind is {profile.kind}"


def _feeder(rig: RigFile, name: str, feeder: str) -> Iterator[Problem]:
    location = ("members", name, "fed_by")
    if not isinstance(rig.profiles[name], BridgeProfile):
        yield location, f"is for a bridge, and the role of {name} is {rig.profiles[name].role}"
    elif feeder not in rig.members:
        yield location, f"no such member: {feeder}" + nearest(feeder, rig.members)
    elif not isinstance(rig.profiles[feeder], BridgeProfile) or feeder == name:
        yield location, f"{feeder} is no other bridge"
    elif rig.members[feeder].fed_by is not None:
        yield location, f"{feeder} is itself fed by {rig.members[feeder].fed_by}: it has nothing to hand on"
    else:
        # A package has one part for each bridge: a second of a kind would get none.
        bridge = _bridge_of(rig, name)
        before = itertools.takewhile(lambda other: other != name, rig.members)
        for other in (feeder, *(other for other in before if rig.members[other].fed_by == feeder)):
            if _bridge_of(rig, other) == bridge:
                yield location, f"{feeder} has one part of a package for a {bridge}, and that is for {other}"


def _bridge_of(rig: RigFile, name: str) -> str | None:
    profile = rig.profiles[name]
    return profile.bridge if isinstance(profile, BridgeProfile) else None


def _duplicates(rig: RigFile) -> Iterator[Problem]:
    for key in ("eui64", "radio", "console"):
        owners: dict[object, str] = {}
        for name, member in rig.members.items():
            value = getattr(member, key)
            if value is None:
                continue
            owner = owners.setdefault(value, name)
            if owner != name:
                text = format_eui64(value) if key == "eui64" else value
                yield ("members", name, key), f"{text} is already that of {owner}"


def _air(rig: RigFile, air: AirSettings) -> Iterator[Problem]:
    if not rig.is_emulated:
        yield ("air",), "is for an emulated rig; what the real air does nobody sets"
    seen: set[tuple[str, ...]] = set()
    for index, link in enumerate(air.links):
        location = ("air", "links", index, "between")
        for name in link.between:
            if name not in rig.members:
                yield location, f"no such member: {name}" + nearest(name, rig.members)
        pair = tuple(sorted(link.between))
        if pair[0] == pair[1]:
            yield location, f"{pair[0]} does not speak to itself"
        elif pair in seen:
            yield location, f"the link between {pair[0]} and {pair[1]} is already given"
        seen.add(pair)
