"""What one EZSP version calls things: the only place that knows how versions differ in names, statuses and order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.emulation.ncp_status import EMBER_STATUS, EZSP_STATUS, Status
from harness.wire.ezsp import EzspCodec
from harness.wire.ezsp_fast import WIDE_STATUS

# Names of EZSP 13 and older, and the ones of EZSP 14 and newer that the handlers use. Order is the tables' business.
_NEW_NAMES = {
    "type": "message_type",
    "indexOrDestination": "nwk",
    "apsFrame": "aps_frame",
    "messageTag": "message_tag",
    "messageContents": "message",
    "childData": "child_data",
    "apsSequence": "sequence",
    "lastHopLqi": "lqi",
    "lastHopRssi": "rssi",
    "context_in": "context",
    "eui": "eui64",
}


class Dialect:
    """Arguments and answers of one EZSP version, in the words of the handlers: newest names, `Status` for statuses."""

    def __init__(self, codec: EzspCodec) -> None:
        self.codec = codec
        self.version = codec.version
        self._wide = codec.version >= WIDE_STATUS
        self._samples: dict[str, dict[str, Any]] = {}

    def arguments(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A command's arguments under the handlers' names."""
        return {_NEW_NAMES.get(name, name): value for name, value in args.items()}

    def message_status(self, status: int) -> int:
        """The status of a message, as sendUnicast and messageSentHandler carry it: an EmberStatus up to EZSP 13."""
        return status if self._wide else EMBER_STATUS.get(status, EMBER_STATUS[Status.FAIL])

    def answer(self, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """The values of response or callback `name`: those of `result` that this version has, under its names."""
        values: dict[str, Any] = {}
        for field, sample in self._sample(name).items():
            given = result.get(_NEW_NAMES.get(field, field), result.get(field))
            if given is not None:
                values[field] = _fit(sample, given)
        return values

    def _sample(self, name: str) -> dict[str, Any]:
        """Every value of the answer `name`, as zero: the codec shows what an answer holds when it reads one back."""
        sample = self._samples.get(name)
        if sample is None:
            blank = self.codec.build_callback(0, name, _NOT_FILLED.get(name, {}), fill=True)
            sample = self._samples[name] = self.codec.parse_response(blank).values
        return sample


# The one answer that the tables describe by a class: its `value` is there with status 0 only.
_NOT_FILLED: dict[str, dict[str, Any]] = {"getTokenData": {"status": 0, "value": b""}}


def _fit(sample: Any, given: Any) -> Any:
    """`given` as the version has it in the place of `sample`: its kind of status, its fields of a structure."""
    kind = type(sample).__name__
    if kind == "EmberStatus":
        return EMBER_STATUS.get(given, EMBER_STATUS[Status.FAIL])
    if kind == "EzspStatus":
        return EZSP_STATUS.get(given, EZSP_STATUS[Status.INVALID_PARAMETER])
    if isinstance(given, Mapping):
        return {
            field.name: _fit(value, given[field.name]) if field.name in given else value
            for field in sample.fields
            if (value := getattr(sample, field.name)) is not None
        }
    return given
