"""The `dcc` section of a rig file: what carries Service Requests, and under which options of the Inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from harness.dcc.csp import CspConfig
from harness.dcc.dsp import DspConfig
from harness.errors import LocalProtocolError
from harness.rig.document import MISSING, shown
from harness.rig.fields import Eui64, Share, StateFile
from harness.rig.profile import Strict
from harness.smi.options import Options

_CSP, _DSP = CspConfig(), DspConfig()
_OF_THE_EMULATED = ("latency_seconds", "loss", "response_seconds", "attempts")


_WORDS = {
    option.name: {"enum": [str(word) for word in type(option.default)]}
    if isinstance(option.default, StrEnum)
    else {"type": "string"}
    for option in fields(Options)
}


def _options(value: object) -> Options:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping of options, not {shown(value)}")
    for name, setting in value.items():
        if isinstance(setting, bool):
            word = "on" if setting else "off"
            raise ValueError(f"{name} must be a word such as {word}, not {shown(setting)}")
        if not isinstance(setting, str):
            raise ValueError(f'{name} must be text, not {shown(setting)}; a number needs quotes: "{setting}"')
    try:
        return Options.of(value)
    except LocalProtocolError as error:
        raise ValueError(str(error)) from error


InventoryOptions = Annotated[
    Options,
    BeforeValidator(_options),
    WithJsonSchema({"type": "object", "properties": _WORDS, "additionalProperties": False}),
]


def _database(value: object, info: ValidationInfo) -> str:
    # It may hold a password: it is never shown.
    scheme, found, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    if not found or not scheme:
        raise ValueError("must be the URL of a database, such as sqlite:///lab.db")
    if scheme.partition("+")[0] != "sqlite":
        return f"{scheme}://{rest}"
    name = rest.removeprefix("/")
    if name == rest or name in ("", ":memory:"):
        raise ValueError("must name the file of a SQLite database, such as sqlite:///lab.db")
    path = Path((info.context or {}).get("folder", "."), name).absolute()
    if not path.parent.is_dir():
        raise ValueError("the folder of the database does not exist")
    return f"{scheme}:///{path}"


DatabaseUrl = Annotated[
    str, BeforeValidator(_database), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9+]+://"})
]


class LossSettings(Strict):
    """What the WAN loses, by chance and the rig's seed."""

    requests: Share = Field(default=0.0, description="Share of images and commands lost on their way down.")
    responses: Share = Field(
        default=0.0, description="Share of responses lost on their way up; alerts are not."
    )


class DccSettings(Strict):
    """What carries Service Requests to the hub of a rig. Times in seconds."""

    by: Literal["emulated", "manual"] = Field(
        default="emulated",
        description="emulated: the harness is the DCC; manual: an operator sends what the harness asks for with the "
        "lab's own tool, and writes down what came back.",
    )
    options: InventoryOptions = Field(
        default=Options(),
        description="Which modifications of the SEC hold in the Inventory, and in which form.",
    )
    latency_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=_CSP.latency_seconds, description="How long each way over the WAN takes."
    )
    loss: LossSettings = LossSettings()
    response_seconds: Annotated[float, Field(gt=0, le=30 * 86400)] = Field(
        default=_DSP.response_seconds, description="How long the DSP waits for a response."
    )
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=_DSP.attempts, description="How often the DSP sends a command in all, until it is answered."
    )
    cpl: StateFile | None = Field(
        default=None,
        description="Extract of the CPL (.csv, .xlsx, .yaml), relative to the rig file. Absent: a row for "
        "each member's own firmware.",
    )
    gpf: Eui64 | None = Field(
        default=None, description="EUI-64 of the hub's GPF; absent: the one after the hub's own."
    )
    folder: StateFile | None = Field(
        default=None,
        description="Where a manual DCC leaves its requests for the operator, relative to the rig file.",
    )
    database: DatabaseUrl | None = Field(
        default=None,
        repr=False,
        description="URL of the database that keeps the Inventory, under the rig's name, from one run to the next; the "
        "path of sqlite:///lab.db is relative to the rig file. Absent: each run begins with an empty one.",
    )
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=2.0, description="Between two looks of a manual DCC for an answer."
    )


def wrong_in_dcc(
    settings: DccSettings, *, emulated: bool, hub_by: str, eui64s: Sequence[int | None]
) -> Iterator[tuple[str, str]]:
    """Give what a `dcc` section contradicts in the rest of its rig file, by key."""
    given = settings.model_fields_set
    if settings.by == "manual":
        if emulated:
            yield "by", "manual is for a real rig: on virtual time no operator answers in time"
        if settings.folder is None:
            yield "folder", MISSING
        for key in _OF_THE_EMULATED:
            if key in given:
                yield key, "is for an emulated DCC, not for a manual one"
    else:
        for key in ("folder", "poll_seconds"):
            if key in given:
                yield key, "is for a manual DCC, not for an emulated one"
        if hub_by == "equipment":
            yield "by", "an emulated DCC has no way to the WAN side of a hub by equipment: make it manual"
    if settings.gpf in eui64s and settings.gpf is not None:
        yield "gpf", "is the EUI-64 of a member"
