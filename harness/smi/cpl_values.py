"""What one cell of a CPL extract says. Whatever has one reading is taken; whatever has two, or none, is Wrong."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.smi.cpl_files import Cell
from harness.smi.devices import ON_THE_CPL, DeviceType, SmetsFamily
from harness.smi.firmware_table import CplStatus

LONGEST_NAME = 30  # DUIS 5.4: DeviceManufacturer and DeviceModel have 30 characters at most
LONGEST_VERSION = 20  # DUIS 5.4: SMETSCHTSVersion

_STATUSES = {str(status).casefold(): status for status in CplStatus}
# DUIS' own words; the others are assumed.
_DEVICE_TYPES = {str(kind).casefold(): kind for kind in DeviceType} | {
    "electricity smart metering equipment": DeviceType.ESME,
    "electricity meter": DeviceType.ESME,
    "gas smart metering equipment": DeviceType.GSME,
    "gas meter": DeviceType.GSME,
    "gas proxy function": DeviceType.GPF,
    "ch": DeviceType.CHF,
    "communications hub": DeviceType.CHF,
    "communications hub function": DeviceType.CHF,
    "han connected auxiliary load control switch": DeviceType.HCALCS,
    "prepayment interface device": DeviceType.PPMID,
    "prepayment meter interface device": DeviceType.PPMID,
    "pre-payment meter interface device": DeviceType.PPMID,
    "in-home display": DeviceType.IHD,
    "in home display": DeviceType.IHD,
    "consumer access device": DeviceType.CAD,
}
_NOTHING = ("n/a", "na", "none", "-", "–", "not applicable")  # noqa: RUF001 - Excel makes dashes

HEXADECIMAL, DOTTED = "hexadecimal", "dotted"
_ERRORS = ("#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!")
_SCIENTIFIC = re.compile(r"\d+(?:\.\d+)?[eE][+-]\d+|\d+\.\d+[eE]\d+")
_DOTTED = re.compile(r"[0-9a-fA-F]{1,2}(?:\.[0-9a-fA-F]{1,2}){3}")
_NUMBER = r"[ :-]*(?:v|version)?[ .]*(?P<number>\d{1,2}(?:\.\d{1,3}){0,2})"
_SMETS_VERSION = re.compile(rf"(?:(?P<document>SMETS ?(?P<family>[12])?|CHTS)\+?)?{_NUMBER}", re.IGNORECASE)
_GBCS_VERSION = re.compile(rf"(?:GBCS)?{_NUMBER}", re.IGNORECASE)
_FAMILY = re.compile(r"(?:SMETS|S)? ?([12])\+?", re.IGNORECASE)
_NOT_A_NAME = re.compile(r"[^ -~¡-¬®-\u024f\u2010-\u2027\u2122]")
_EMPTY_HASH = hashlib.sha256(b"").digest()
_OTHER_HASHES = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 96: "SHA-384", 128: "SHA-512"}

DAY_FIRST, MONTH_FIRST, DATE_CELL = "day/month/year", "month/day/year", "a date cell"
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ]\d{2}:\d{2}.*)?")
_NUMERIC_DATE = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?: 0?0:00(?::00)?)?")
_NAMED_DATE = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?[ -]([A-Za-z]{3,9})[ ,-]*(\d{4}|\d{2})")
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_EXCEL_EPOCH = dt.date(1899, 12, 30)
_SERIALS = range(36526, 73051)  # 2000-01-01 to 2100-01-01
_FIRST_YEAR = 2000  # nothing of smart metering is older: an older year is a typing error or Excel's day 0


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a cell, as the end of a sentence, and what would be right where that is obvious."""

    text: str
    right: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A firmware version and how it is coded: HEXADECIMAL (09030A07, 0x09030A07) or DOTTED (09.03.0A.07)."""

    value: int
    coding: str


@dataclass(frozen=True, slots=True)
class Date:
    """A date and how it is written. `swapped` is the other date that it is if day and month were taken for each other.

    A form of MONTH_FIRST is no date of a UK list. It is for the list to say: it puts its other dates in doubt.
    """

    value: dt.date
    form: str
    swapped: dt.date | None = None


@dataclass(frozen=True, slots=True)
class SmetsVersion:
    """The number of a SMETS or CHTS version (4.2) and its family. `said`: the text names it, its number did not."""

    number: str
    family: SmetsFamily
    said: bool


def says_nothing(cell: Cell) -> bool:
    """Say whether a cell is empty in words: N/A, none, a dash."""
    return isinstance(cell, str) and cell.casefold() in _NOTHING


def _text(cell: Cell) -> str | Wrong:
    """Return a cell as the text that a spreadsheet shows, for what is text by nature."""
    if isinstance(cell, str):
        return Wrong("is the error of an Excel formula") if cell in _ERRORS else cell
    if isinstance(cell, bool) or cell is None:
        return Wrong("is a truth value: Excel has made it of a text")
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return Wrong("is a date or time: Excel has made it of a text")


def _one_line(cell: Cell, longest: int) -> str | Wrong:
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    odd = _NOT_A_NAME.search(text)
    if odd is not None:
        right = " ".join(_NOT_A_NAME.sub(" ", text).split())
        return Wrong(f"has the character U+{ord(odd[0]):04X}, which nobody sees or means", right)
    if "  " in text:
        return Wrong("has two spaces together", " ".join(text.split()))
    if len(text) > longest:
        return Wrong(f"has {len(text)} characters, {longest} are the most")
    return text


def name(cell: Cell) -> str | Wrong:
    """Return the name of a manufacturer or model."""
    return _one_line(cell, LONGEST_NAME)


def hardware_version(cell: Cell) -> str | Wrong:
    """Return a hardware version, as it is written."""
    return _one_line(cell, LONGEST_NAME)


def entry_id(cell: Cell) -> str | Wrong:
    """Return the id of a CPL entry, as it is written."""
    return _one_line(cell, LONGEST_NAME)


def device_type(cell: Cell) -> DeviceType | Wrong:
    """Return a device type that has rows on the CPL."""
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    plain = " ".join(text.casefold().split())
    found = _DEVICE_TYPES.get(plain)
    if found in ON_THE_CPL:
        return found
    if found is not None:
        return Wrong(f"has no rows on the CPL: {found} is not a device type of it")
    wanted = ", ".join(kind for kind in DeviceType if kind in ON_THE_CPL)
    return Wrong(f"is no device type of the CPL ({wanted})", _near(plain, _DEVICE_TYPES))


def status(cell: Cell) -> CplStatus | Wrong:
    """Return the status of an entry."""
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    plain = text.casefold()
    return _STATUSES.get(plain) or Wrong(f"is no status ({', '.join(CplStatus)})", _near(plain, _STATUSES))


def _near(word: str, known: Mapping[str, str]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.75)
    return str(known[near[0]]) if near else None


def family(cell: Cell) -> SmetsFamily | Wrong:
    """Return the SMETS family: SMETS1, or SMETS2, which SMETS2+ is too."""
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    found = _FAMILY.fullmatch(text)
    if found is None:
        return Wrong(f"is no SMETS family ({', '.join(SmetsFamily)})")
    return _family(found[1])


def _family(generation: str) -> SmetsFamily:
    return SmetsFamily.SMETS1 if int(generation) == 1 else SmetsFamily.SMETS2


def smets_version(cell: Cell) -> SmetsVersion | Wrong:
    """Return a SMETS or CHTS version. Its number alone says the family too: 1 is SMETS1, 2 and above are SMETS2."""
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    found = _SMETS_VERSION.fullmatch(text)
    if found is None or len(text) > LONGEST_VERSION:
        return Wrong("is no SMETS or CHTS version (4.2, SMETS2 v4.2, CHTS v1.4)")
    number = found["number"]
    if found["document"] and found["document"].casefold() == "chts":
        return SmetsVersion(number, SmetsFamily.SMETS2, said=True)  # SMETS1 has no CHTS
    if found["family"]:
        return SmetsVersion(number, _family(found["family"]), said=True)
    return SmetsVersion(number, _family(number.split(".")[0]), said=False)


def gbcs_version(cell: Cell) -> str | Wrong:
    """Return the number of a GBCS version."""
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    found = _GBCS_VERSION.fullmatch(text)
    return found["number"] if found else Wrong("is no GBCS version (4.1)")


def firmware_version(cell: Cell) -> Version | Wrong:
    """Return a firmware version.

    Taken are 8 hexadecimal digits, with or without 0x, and four dotted pairs of them; BCD is a case of either, and read
    digit for digit. A number cell is taken for its digits if it has 8: a shorter one has lost its zeros, and a longer
    one is the version in decimal, or had an E that Excel took for an exponent.
    """
    if isinstance(cell, float) and not cell.is_integer():
        return Wrong("is a fraction, so no firmware version")
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    if not isinstance(cell, str):
        return _numeric_version(text)
    if _SCIENTIFIC.fullmatch(text):
        return Wrong("is a number that a spreadsheet has rounded: its digits are lost")
    if "." in text:
        return _dotted_version(text)
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    if not re.fullmatch(r"[0-9a-fA-F]+", digits):
        return Wrong("is no firmware version: it is not hexadecimal")
    if len(digits) == 8 or (digits is not text and len(digits) < 8):
        return Version(int(digits, 16), HEXADECIMAL)
    return _numeric_version(digits)


def _numeric_version(digits: str) -> Version | Wrong:
    if digits.startswith("-"):
        return Wrong("is negative, so no firmware version")
    if len(digits) == 8:
        return Version(int(digits, 16), HEXADECIMAL)
    if len(digits) < 8:
        right = digits.zfill(8).upper()
        return Wrong(
            f"has {len(digits)} digits, not 8: a spreadsheet drops the zeros ahead of a number", right
        )
    if digits.isdecimal() and int(digits) <= 0xFFFFFFFF:
        return Wrong("is a firmware version in decimal: the CPL has BCD or hexadecimal", f"{int(digits):08X}")
    return Wrong(f"has {len(digits)} digits, not the 8 of a firmware version")


def _dotted_version(text: str) -> Version | Wrong:
    whole, _, rest = text.partition(".")
    if rest.strip("0") == "" and whole.isdecimal():
        return Wrong("is a number to a spreadsheet: a firmware version has no fraction", whole.zfill(8))
    if not _DOTTED.fullmatch(text):
        return Wrong("is no firmware version: it has dots, but is not four pairs of digits (09.03.0A.07)")
    parts = text.split(".")
    digits = "".join(part.zfill(2) for part in parts)
    if any(len(part) == 1 for part in parts) and any(int(part, 16) > 9 for part in parts):
        if all(part.isdecimal() for part in parts):
            binary = "".join(f"{int(part):02X}" for part in parts)
            return Wrong(f"has two readings: {digits} as BCD, {binary} as hexadecimal of decimal parts")
        return Wrong("has parts of one digit and of two", digits.upper())
    return Version(int(digits, 16), DOTTED)


def image_hash(cell: Cell) -> bytes | Wrong:
    """Return a Manufacturer Image Hash: SHA-256, in hexadecimal of either case.

    Spaces, colons or hyphens between its digits and 0x ahead of them are left out: no digit is in doubt by them.
    """
    if not isinstance(cell, str):
        return Wrong("is not text: Excel has made a number or a date of the hash, and its digits are lost")
    digits = cell
    if len(cell) != 64:
        digits = re.sub(r"[\s\u00a0:-]", "", cell)
        digits = digits[2:] if digits[:2] in ("0x", "0X") else digits
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        return _wrong_hash(cell, digits)
    if len(found) != 32:
        return _wrong_hash(cell, digits)
    if not any(found):
        return Wrong("is a place holder: all zeros are the hash of no image")
    if found == _EMPTY_HASH:
        return Wrong("is the SHA-256 of nothing: it was made of an empty file")
    return found


def _wrong_hash(cell: str, digits: str) -> Wrong:
    if cell in _ERRORS:
        return Wrong("is the error of an Excel formula")
    if _SCIENTIFIC.fullmatch(cell):
        return Wrong("is a number that a spreadsheet has rounded: the digits of the hash are lost")
    odd = re.search(r"[^0-9a-fA-F]", digits)
    if odd is not None:
        letter = {"O": ", a letter and no zero", "o": ", a letter and no zero", "l": ", a letter and no one"}
        note = letter.get(odd[0], "") or (", a letter and no one" if odd[0] == "I" else "")
        return Wrong(f"is not hexadecimal: character {cell.find(odd[0]) + 1} is {odd[0]!r}{note}")
    other = f", as {_OTHER_HASHES[len(digits)]} has" if len(digits) in _OTHER_HASHES else ""
    return Wrong(f"has {len(digits)} hexadecimal digits{other}: a SHA-256 has 64")


def date(cell: Cell) -> Date | Wrong:
    """Return a date: ISO, day/month/year as the UK writes it, with the month's name, or a date cell."""
    if isinstance(cell, dt.date):
        day = cell.date() if isinstance(cell, dt.datetime) else cell
        return _checked(Date(day, DATE_CELL, _swap(day)))
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return _serial(int(cell))
    if not isinstance(cell, str):
        return Wrong("is no date")
    if found := _ISO.fullmatch(cell):
        return _calendar(int(found[1]), int(found[2]), int(found[3]), "year-month-day")
    if found := _NAMED_DATE.fullmatch(cell):
        months = [
            index for index, month in enumerate(_MONTHS, 1) if month.startswith(found[2].casefold()[:9])
        ]
        if len(months) != 1:
            return Wrong(f"is no date: {found[2]!r} is no month")
        return _written(int(found[1]), months[0], found[3], "day month year")
    if found := _NUMERIC_DATE.fullmatch(cell):
        return _written(int(found[1]), int(found[3]), found[4], DAY_FIRST)
    if cell.isdecimal() and len(cell) == 5:
        return _serial(int(cell))
    return Wrong(
        "is the error of an Excel formula" if cell in _ERRORS else "is no date (2027-03-31, 31/03/2027)"
    )


def _written(day: int, month: int, year: str, form: str) -> Date | Wrong:
    number = int(year) if len(year) == 4 else 2000 + int(year)
    found = _calendar(number, month, day, form)
    if isinstance(found, Wrong):
        if month > 12 and isinstance(other := _calendar(number, day, month, form), Date):
            return Date(other.value, MONTH_FIRST)
        return found
    if len(year) == 2:
        return Wrong("has a year of two digits", f"{found.value:%d/%m/%Y}")
    return Date(found.value, form, _swap(found.value)) if form == DAY_FIRST else found


def _swap(day: dt.date) -> dt.date | None:
    return day.replace(month=day.day, day=day.month) if day.day <= 12 and day.day != day.month else None


def _calendar(year: int, month: int, day: int, form: str) -> Date | Wrong:
    try:
        return _checked(Date(dt.date(year, month, day), form))
    except ValueError:
        return Wrong("is no day of the calendar")


def _checked(found: Date) -> Date | Wrong:
    if found.value.year < _FIRST_YEAR:
        return Wrong(f"is before {_FIRST_YEAR}, when there was no smart meter")
    return found


def _serial(number: int) -> Wrong:
    if number in _SERIALS:
        right = _EXCEL_EPOCH + dt.timedelta(days=number)
        return Wrong("is a number, and so no date until somebody formats it as one", right.isoformat())
    return Wrong("is a number, and so no date")


def entry_ids(cell: Cell) -> tuple[str, ...] | Wrong:
    """Return the ids of the entries in a cell, separated by commas, semicolons or line ends."""
    text = _text(cell)
    if isinstance(text, Wrong):
        return text
    found = tuple(part.strip() for part in re.split(r"[,;\n]", text) if part.strip())
    for index, one in enumerate(found):
        if one in found[:index]:
            return Wrong(f"names {one!r} twice")
    return found


# By field; the fields are those of cpl_columns.
READERS: Mapping[str, Callable[[Cell], Any]] = {
    "entry_id": entry_id,
    "device_type": device_type,
    "manufacturer": name,
    "model": name,
    "hardware_version": hardware_version,
    "firmware_version": firmware_version,
    "smets": family,
    "smets_version": smets_version,
    "gbcs_version": gbcs_version,
    "image_hash": image_hash,
    "status": status,
    "start": date,
    "expiry": date,
    "certificate_start": date,
    "certificate_expiry": date,
    "predecessors": entry_ids,
}
