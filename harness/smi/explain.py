"""Why a Device is as it is, in sentences: the answer to "why is this Device Suspended?"."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

from harness.smi.devices import DeviceStatus, format_eui64, format_version
from harness.smi.record import Change, Device, FieldValue
from harness.smi.rules import RULES

_EUI64S = frozenset({"device", "hub", "joining", "associated_gpf"})
_UNTOLD = frozenset({"user", "devices", "rows", "labels", "image_hash"})  # long, or beside the point


def explain(device: Device, cpl: str) -> list[str]:
    """Return how a Device stands by a CPL, then each change that is kept, the oldest first."""
    return [_state(device, cpl), *_gap(device), *(_sentence(change) for change in device.history)]


def _state(device: Device, cpl: str) -> str:
    name = f"{device.device_type} {format_eui64(device.device)} ({device.manufacturer} {device.model}, {device.smets})"
    said = f"{name} is {device.status}"
    if device.status is DeviceStatus.SUSPENDED:
        said += f" and was {device.status_before_suspension}"
    said += f"; firmware version {format_version(device.firmware_version)}"
    if device.status is DeviceStatus.SUSPENDED:
        said += f" is no Active row of {cpl} for this model and family"
    return f"{said}."


def _gap(device: Device) -> list[str]:
    return [f"{device.forgotten} earlier changes are not kept."] if device.forgotten else []


def _sentence(change: Change) -> str:
    rule = RULES[change.rule]
    before, after = _shown(change.field, change.before), _shown(change.field, change.after)
    what = f"{change.field.replace('_', ' ')} {before} -> {after}"
    return f"{_time(change.at)}: {what}, after {_event(change.event)}. {rule.text} [{rule}]"


def _shown(field: str, value: FieldValue) -> str:
    if value is None:
        return "none"
    if field == "firmware_version" and isinstance(value, int):
        return format_version(value)
    if field in _EUI64S and isinstance(value, int):
        return format_eui64(value)
    return str(value)


def _event(event: object) -> str:
    told = []
    if isinstance(srv := getattr(event, "srv", None), str):
        told.append(f"SR{srv}")
    for field in fields(event):  # type: ignore[arg-type]
        value = getattr(event, field.name)
        if value is None or value is False or field.name in _UNTOLD or field.name == "srv":
            continue
        if isinstance(value, tuple):
            told.append(" ".join(str(part) for part in value))
        else:
            told.append(f"{field.name.replace('_', ' ')} {_shown(field.name, value)}")
    return f"{type(event).__name__}({', '.join(told)})"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
