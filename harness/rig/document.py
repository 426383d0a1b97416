"""YAML that people write for the harness: read with line numbers, checked strictly, complained of in sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import RigError

Location = tuple[str | int, ...]
Problem = tuple[Location, str]
Model = TypeVar("Model", bound=BaseModel)

# A secret in the wrong place must not reach a log: text with as many hexadecimal digits as the shortest install code
# and its CRC (16) is an EUI-64 and shown, but more is not.
_LONGEST_HEX_SHOWN = 16
_LONGEST_TEXT_SHOWN = 60

MISSING = "is missing"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 less its surprises: `on` and `no` are text, and so are 00:12:34, 0017 and 2000-01-01."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - replaces the parent's


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(0|[1-9][0-9]*)\.[0-9]*", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: its value, in dicts, tuples and scalars, and the line of each key and list entry."""

    path: Path
    value: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """Return the line of a key path, or of its nearest parent that is in the file."""
        return next(
            self.lines[location[:length]]
            for length in range(len(location), -1, -1)
            if location[:length] in self.lines
        )

    def refuse(self, problems: Iterable[Problem]) -> NoReturn:
        """Raise RigError with a line `FILE:LINE: KEY: PROBLEM` for each problem, in the order of the file."""
        found = sorted((self.line(location), key_path(location), text) for location, text in problems)
        sentences = (f"{self.path}:{line}: {f'{key}: ' if key else ''}{text}" for line, key, text in found)
        raise RigError("\n".join(sentences)) from None


def read_document(path: Path) -> Document:
    """Read one YAML file; RigError with file and line for one that is missing, not YAML, or says a key twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RigError(f"{path}: is not UTF-8 text (octet {error.start})") from error
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise RigError(f"{path}: is empty")
        lines: dict[Location, int] = {(): 1}
        return Document(path, _value(loader, node, (), lines, ()), lines)
    except yaml.MarkedYAMLError as error:
        # Only the problem: the mark's snippet repeats the line, which may hold a key.
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RigError(f"{where}: is not YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise RigError(f"{path}: is not YAML that anybody writes: it is nested too deep") from None
    except yaml.reader.ReaderError as error:
        raise RigError(f"{path}: is not YAML: {error.reason} at character {error.position}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _value(
    loader: _Loader,
    node: yaml.Node,
    location: Location,
    lines: dict[Location, int],
    above: tuple[yaml.Node, ...],
) -> Any:
    if node in above:
        raise yaml.composer.ComposerError(None, None, "an anchor that holds itself", node.start_mark)
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node)
            mark = key_node.start_mark
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not text", mark)
            inner = (*location, key)
            if key in mapping:
                first = lines[inner]
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_path(inner)} is already on line {first}", mark
                )
            lines[inner] = mark.line + 1
            mapping[key] = _value(loader, value_node, inner, lines, above)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            lines[*location, index] = entry.start_mark.line + 1
        return tuple(
            _value(loader, entry, (*location, index), lines, above) for index, entry in enumerate(node.value)
        )
    return _scalar(loader, node)


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node)
    except (AttributeError, LookupError, ValueError):
        # PyYAML's own makers of numbers, times and truth, of a text under a tag that it is not. The text may be a key.
        kind = node.tag.rpartition(":")[2]
        raise yaml.constructor.ConstructorError(
            None, None, f"a value that is no {kind}", node.start_mark
        ) from None


def key_path(location: Location) -> str:
    """Return a key path as text: `air.links[0].loss`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest of the known words, or nothing when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?`, or else the words that there are."""
    words = list(known)
    return did_you_mean(word, words) or (f"; known: {', '.join(words)}" if words else "")


def shown(value: object) -> str:
    """Return a scalar as a message may show it: short, and never what could be a key or an install code."""
    if isinstance(value, str):
        digits = re.sub(r"[\s:-]", "", value)
        if len(digits) > _LONGEST_HEX_SHOWN and re.fullmatch(r"[0-9A-Fa-f]+", digits):
            return f"{len(digits)} hexadecimal digits"
        return repr(value if len(value) <= _LONGEST_TEXT_SHOWN else value[: _LONGEST_TEXT_SHOWN - 3] + "...")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and len(str(abs(value))) > _LONGEST_HEX_SHOWN:
        return f"a number of {len(str(abs(value)))} digits"
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    return str(value)


def check(document: Document, model: type[Model], *, secrets: frozenset[str] = frozenset()) -> Model:
    """Return the document as a `model`; RigError with a line for each key that is wrong.

    Values under the keys named in `secrets` are not shown.
    """
    try:
        return model.model_validate(document.value, context={"folder": document.path.parent})
    except ValidationError as error:
        schema = model.model_json_schema()
        problems = [_problem(item, schema, secrets) for item in error.errors(include_url=False)]
    # A key that is missing because it stands there misspelt is said once.
    meant = {
        (*location[:-1], problem.rsplit(" ", 1)[1].rstrip("?")) for location, problem in problems if location
    }
    document.refuse(problem for problem in problems if problem[1] != MISSING or problem[0] not in meant)


_EXPECTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names",
    "model_type": "must be a mapping",
}


def _problem(item: Mapping[str, Any], schema: Mapping[str, Any], secrets: frozenset[str]) -> Problem:
    location: Location = tuple(part for part in item["loc"] if part != "[key]")
    kind, given = item["type"], item["input"]
    if kind == "extra_forbidden":
        return location, "no such key" + nearest(str(location[-1]), _keys_at(schema, location[:-1]))
    if kind == "missing":
        return location, MISSING
    if kind == "literal_error":
        expected = str(item["ctx"]["expected"])
        words = re.findall(r"'([^']*)'", expected)
        hint = did_you_mean(given, words) if isinstance(given, str) and len(words) > 1 else ""
        return location, f"must be {expected}, not {shown(given)}{hint}"
    if kind == "value_error":
        # The validators' own sentences, which show what may be shown.
        return location, str(item["ctx"]["error"])
    expected = _EXPECTED.get(kind) or str(item["msg"]).replace("Input should", "must").replace(
        "String should", "must"
    )
    expected = expected[0].lower() + expected[1:]
    if location and location[-1] in secrets:
        quote = " (a text of digits alone needs quotes)" if isinstance(given, int) else ""
        return location, expected + quote
    return location, f"{expected}, not {shown(given)}"


def _keys_at(schema: Mapping[str, Any], location: Location) -> list[str]:
    """Return the keys that the JSON Schema knows at a place of the document."""
    root: Mapping[str, Any] = schema

    def resolve(part: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in part:
            part = root["$defs"][part["$ref"].rsplit("/", 1)[1]]
        if "anyOf" in part:
            return resolve(next(option for option in part["anyOf"] if option.get("type") != "null"))
        return part

    here = resolve(schema)
    for key in location:
        if isinstance(key, int):
            inner = here["items"]
        elif key in here.get("properties", {}):
            inner = here["properties"][key]
        else:
            # A mapping of names that people choose, under pydantic's pattern for them.
            (inner,) = here["patternProperties"].values()
        here = resolve(inner)
    return list(here.get("properties", {}))
