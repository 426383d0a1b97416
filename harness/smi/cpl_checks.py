"""What no row of a CPL extract can say alone: codings, dates, families, rows that contradict, predecessors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from harness.smi.cpl_sheet import Findings, Row, named
from harness.smi.cpl_values import (
    DATE_CELL,
    DAY_FIRST,
    DOTTED,
    HEXADECIMAL,
    MONTH_FIRST,
    Date,
    SmetsVersion,
    Version,
)
from harness.smi.devices import DeviceType, SmetsFamily, format_version

_DATES = ("start", "expiry", "certificate_start", "certificate_expiry")
_PERIODS = (("start", "expiry"), ("certificate_start", "certificate_expiry"))
_KEY = ("manufacturer", "model", "firmware_version", "smets")
# What two rows of one key have to agree on. A model may have several hardware versions, with a row each.
_STATEMENTS = (
    "device_type", "smets_version", "gbcs_version", "image_hash", "status", "expiry", "predecessors",
)  # fmt: skip


def check_list(findings: Findings) -> None:
    """Check the rows against each other, and leave in each the plain values of its CplRow."""
    for check in _CHECKS:
        check(findings)


def _check_codings(findings: Findings) -> None:
    """CPLQ: a list has its firmware versions in one coding. The rows in the rarer one are the faults."""
    rows = _having(findings, "firmware_version")
    versions: list[Version] = [row.values["firmware_version"] for row in rows]
    codings = Counter(version.coding for version in versions)
    usual = max(codings, key=codings.__getitem__, default=HEXADECIMAL)
    for row, version in zip(rows, versions, strict=True):
        row.values["firmware_version"] = version.value
        if version.coding != usual:
            digits = format_version(version.value)
            pairs = ".".join(digits[index : index + 2] for index in range(0, 8, 2))
            text = f"is {version.coding}, and {codings[usual]} of the list's {len(rows)} versions are {usual}"
            findings.fault(row, "firmware_version", text, pairs if usual is DOTTED else digits)


def _check_dates(findings: Findings) -> None:
    """A date with two readings is a fault where another of its column shows that the other reading is about."""
    for name in _DATES:
        rows = _having(findings, name)
        _check_column_of_dates(findings, name, [(row, row.values[name]) for row in rows])
        for row in rows:
            row.values[name] = row.values[name].value
    for start, end in _PERIODS:
        for row in _having(findings, start, end):
            if row.values[end] < row.values[start]:
                text = f"is before its {row.header.fields[start].header!r}, {row.values[start].isoformat()}"
                findings.fault(row, end, text)


def _check_column_of_dates(findings: Findings, name: str, dates: list[tuple[Row, Date]]) -> None:
    by_form: dict[str, list[tuple[Row, Date]]] = defaultdict(list)
    for row, date in dates:
        by_form[date.form].append((row, date))
    month_first, day_first, cells = by_form[MONTH_FIRST], by_form[DAY_FIRST], by_form[DATE_CELL]
    for row, date in month_first:
        text = "has its month first, and the CPL is a list of the UK"
        findings.fault(row, name, text, f"{date.value:%d/%m/%Y}")
    if month_first:
        for row, date in day_first:
            if date.swapped is not None:
                text = (
                    f"is {date.value.isoformat()} or {date.swapped.isoformat()}: "
                    f"{month_first[0][0].place} has its month first"
                )
                findings.fault(row, name, text)
    elif (
        # Excel with American settings makes date cells of 03/04/2027 as March 4, and leaves 31/03/2027 a text.
        day_first
        and all(date.value.day > 12 for _, date in day_first)
        and all(date.value.day <= 12 for _, date in cells)
    ):
        for row, date in cells:
            if date.swapped is not None:
                text = (
                    f"may have its day and month swapped (for {date.swapped.isoformat()}): Excel has left "
                    f"{day_first[0][0].shown(name)} in {day_first[0][0].place} as text"
                )
                findings.fault(row, name, text)
    forms = [f"{form} in {named([row.number for row, _ in some])}" for form, some in by_form.items() if some]
    if len(forms) > 1 and dates:
        findings.remark(None, f"{dates[0][0].header.fields[name].header!r} has dates as {', '.join(forms)}")


def _check_families(findings: Findings) -> None:
    """The SMETS family is in a column of its own or follows from the SMETS version; where both say it, they agree."""
    for row in _having(findings, "smets_version"):
        version: SmetsVersion = row.values["smets_version"]
        row.values["smets_version"] = version.number
        if row.values.get("device_type") is DeviceType.CHF and not version.said:
            # The number is of the CHTS, and says nothing of the SMETS; a hub of SMETS1 has no CHTS.
            row.values.setdefault("smets", SmetsFamily.SMETS2)
        elif "smets" not in row.wrong:
            said = row.values.setdefault("smets", version.family)
            if said is not version.family:
                text = f"does not match {row.shown('smets_version')}, which is a version of {version.family}"
                findings.fault(row, "smets", text)


def _check_keys(findings: Findings) -> None:
    """F5: rows are about one thing if manufacturer, model, firmware version and SMETS family are the same."""
    firsts: dict[tuple[object, ...], Row] = {}
    exact: dict[tuple[object, ...], Row] = {}
    for row in _having(findings, *_KEY):
        values = row.values
        key = (values["manufacturer"], values["model"], values["firmware_version"], values["smets"])
        first = firsts.setdefault(key, row)
        again = exact.setdefault((key, values.get("hardware_version")), row)
        if first is row:
            continue
        differing = [
            name
            for name in _STATEMENTS
            if values.get(name) != first.values.get(name) and not {name} & (row.wrong | first.wrong)
        ]
        for name in differing:
            text = (
                f"contradicts {first.shown(name)} in {first.place}: both are for {key[0]} {key[1]} "
                f"{format_version(values['firmware_version'])} {key[3]}"
            )
            findings.fault(row, name, text)
        if not differing and again is not row:
            findings.fault(row, "", f"says again what {again.place} says")


def _check_predecessors(findings: Findings) -> None:
    """MP231: a predecessor is the CPL Entry ID of an earlier version of the same model; no row comes before itself."""
    entries: dict[str, Row] = {}
    for row in _having(findings, "entry_id"):
        first = entries.setdefault(row.values["entry_id"], row)
        if first is not row:
            findings.fault(row, "entry_id", f"is the entry of {first.place} already")
    for row in _having(findings, "predecessors"):
        for one in row.values["predecessors"]:
            found = entries.get(one)
            if found is None:
                findings.fault(row, "predecessors", f"names {one!r}, which the list does not have")
            elif any(found.values.get(name) != row.values.get(name) for name in ("manufacturer", "model")):
                findings.fault(row, "predecessors", f"names {one!r}, which is another model's: {found.place}")
            elif _leads_back(found, row, entries):
                findings.fault(
                    row, "predecessors", f"names {one!r}, which has this row among its own predecessors"
                )


def _leads_back(start: Row, goal: Row, entries: dict[str, Row]) -> bool:
    """Say whether a row is another one, or comes after it."""
    waiting, seen = [start], {id(start)}
    while waiting:
        row = waiting.pop()
        if row is goal:
            return True
        for one in row.values.get("predecessors", ()):
            found = entries.get(one)
            if found is not None and id(found) not in seen:
                seen.add(id(found))
                waiting.append(found)
    return False


def _remark_on_hashes(findings: Findings) -> None:
    """One image is one version of one model as a rule: that two have one hash is likely a copied cell, yet no proof."""
    firsts: dict[bytes, Row] = {}
    for row in _having(findings, *_KEY, "image_hash"):
        first = firsts.setdefault(row.values["image_hash"], row)
        if first is not row and any(row.values[name] != first.values[name] for name in _KEY[:3]):
            findings.remark(None, f"{row.place} has the hash of {first.place}, another model or version")


def _remark_on_spelling(findings: Findings) -> None:
    """The Inventory compares names letter by letter: two spellings of one are two models."""
    for name in ("manufacturer", "model"):
        firsts: dict[object, Row] = {}
        told: set[object] = set()
        for row in _having(findings, "manufacturer", name):
            spelt = (row.values["manufacturer"], row.values[name])
            plain = tuple(word.casefold() for word in spelt)
            first = firsts.setdefault(plain, row)
            if row.values[name] != first.values[name] and spelt not in told:
                told.add(spelt)
                findings.remark(
                    None, f"{row.place} has {row.shown(name)} where {first.place} has {first.shown(name)}"
                )


def _having(findings: Findings, *names: str) -> list[Row]:
    wanted = set(names)
    return [row for row in findings.rows if row.values.keys() >= wanted]


# In this order: each leaves plain values for those after it.
_CHECKS: Iterable[Callable[[Findings], None]] = (
    _check_codings,
    _check_dates,
    _check_families,
    _check_keys,
    _check_predecessors,
    _remark_on_hashes,
    _remark_on_spelling,
)
