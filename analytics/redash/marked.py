"""Marked YAML: text flows in, values flow out that know their lines, so that an error names the place; and
plain values flow in, text flows out.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any, Final, TypeVar

import msgspec
import yaml

T = TypeVar("T")


class Malformed(Exception):
    """A file is not written as it should be; says where, and what to write."""


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: ``on`` and ``12:30`` are words, only true and false are booleans, and
    keys are words, as they are in JSON.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; an error where it says something twice."""
        made: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be a word", problem_mark=key.start_mark
                )
            if key.value in made:
                raise yaml.constructor.ConstructorError(
                    problem=f"`{key.value}` is said twice", problem_mark=key.start_mark
                )
            made[key.value] = self.construct_object(value, deep=deep)
        return made


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
    ("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+(?:e[-+][0-9]+)?$", "-0123456789"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_PLAIN: Final = {
    f"tag:yaml.org,2002:{tag}" for tag in ("bool", "int", "float", "null", "str", "seq", "map")
}
_Loader.yaml_constructors = {
    tag: make for tag, make in _Loader.yaml_constructors.items() if tag is None or tag in _PLAIN
}
# What aliases may make of a file.
_MOST_VALUES: Final = 100_000

_UNKNOWN: Final = re.compile(r"unknown field `(.+?)`")
_AT: Final = re.compile(r" - at `\$\.?([^`\[.]*)[^`]*`$")
_SAID: Final = (
    (re.compile(r"Object missing required field `(.+?)`"), r"`\1` is missing"),
    (re.compile(r"Object contains unknown field `(.+?)`"), r"`\1` is not known here"),
    (re.compile(r"Expected `array` of length (\d+), got (\d+)"), r"expected \1 values, not \2"),
)
_TYPES: Final = re.compile(r"Expected `(.+?)`, got `(.+?)`")
# The converter's words, and a writer's.
_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "`key: value`",
    "str": "a word",
}


class Marked:
    """A value, and where it stands. ``lines_before`` are those of the file before the YAML's first."""

    def __init__(self, node: yaml.Node, file: str, lines_before: int) -> None:
        self._node = node
        self._file = file
        self._lines_before = lines_before

    @classmethod
    def read(cls, text: str, file: str, lines_before: int = 0, more: str = "") -> Marked:
        """The text's value; Malformed where it is no YAML, with ``more`` to say of it."""
        try:
            node = yaml.compose(text, _Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = lines_before + (mark.line + 1 if mark else 1)
            problem = getattr(error, "problem", None) or "it cannot be read"
            hint = '; put a value that has ": " or " #" in it in quotes'
            if "\\t" in problem:
                problem, hint = "there is a tab", "; write spaces"
            raise Malformed(f"{file}:{line}: this is no YAML: {problem}{hint}{more}") from None
        if node is None:
            raise Malformed(f"{file}:{lines_before + 1}: there is nothing in it")
        made = cls(node, file, lines_before)
        if _values(node, ()) > _MOST_VALUES:
            raise made.wrong("its aliases (*) make too much of it, or stand within themselves")
        return made

    def wrong(self, why: str, key: str | None = None) -> Malformed:
        """An error at this place, or at one of its keys."""
        node = self._node
        if key is not None and isinstance(node, yaml.MappingNode):
            node = next((name for name, _ in node.value if name.value == key), node)
        return Malformed(f"{self._file}:{self._lines_before + node.start_mark.line + 1}: {why}")

    def at(self, *keys: str | int) -> Marked:
        """What stands under these keys and numbers of a list, as far as there is anything."""
        node = self._node
        for key in keys:
            found = None
            if isinstance(node, yaml.MappingNode):
                found = next((value for name, value in node.value if name.value == key), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                found = node.value[key]
            if found is None:
                break
            node = found
        return Marked(node, self._file, self._lines_before)

    def plain(self) -> Any:
        """The value without its lines."""
        loader = _Loader("")
        try:
            return loader.construct_document(self._node)
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = (mark or self._node.start_mark).line + self._lines_before + 1
            why = getattr(error, "problem", None) or "a number is too long"
            raise Malformed(f"{self._file}:{line}: {why}") from None
        finally:
            loader.dispose()

    def items(self) -> Iterator[tuple[str, Marked]]:
        """A mapping's keys and values; Malformed where it is none, or says something twice."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("expected `key: value`, one a line")
        seen: set[str] = set()
        for key, value in self._node.value:
            here = Marked(key, self._file, self._lines_before)
            if not isinstance(key, yaml.ScalarNode):
                raise here.wrong("a key must be a word")
            if key.value in seen:
                raise here.wrong(f"`{key.value}` is said twice")
            seen.add(key.value)
            yield key.value, Marked(value, self._file, self._lines_before)

    def elements(self) -> Iterator[Marked]:
        """A list's values; Malformed where it is none."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong("expected a list: `- value`, one a line, or [value, value]")
        for value in self._node.value:
            yield Marked(value, self._file, self._lines_before)

    def as_a(self, type_: type[T]) -> T:
        """The value as a struct, or whatever else; Malformed where it does not fit."""
        try:
            for _ in self.items() if isinstance(self._node, yaml.MappingNode) else ():
                pass
            return msgspec.convert(self.plain(), type_)
        except msgspec.ValidationError as error:
            raise self._said(str(error)) from None

    def _said(self, why: str) -> Malformed:
        """What the converter found, in our words and at its line."""
        at = _AT.search(why)
        unknown = _UNKNOWN.search(why)
        key = unknown[1] if unknown else at[1] if at else None
        why = _AT.sub("", why)
        for pattern, said in _SAID:
            why = pattern.sub(said, why)
        why = _TYPES.sub(lambda found: _misfit(found[1], found[2]), why)
        return self.wrong(f"`{key}`: {why}" if key and not unknown else why, key)


def _misfit(wanted: str, got: str) -> str:
    """What was expected, what it is, and how a number or the like is written as a word."""
    kinds = [one for one in wanted.split(" | ") if one != "null"]
    hint = ": put it in quotes" if "str" in kinds and got in {"int", "float", "bool"} else ""
    said = " or ".join(_WORDS.get(one, one) for one in kinds)
    return f"expected {said}, not {_WORDS.get(got, got)}{hint}"


def _values(node: yaml.Node, within: tuple[yaml.Node, ...]) -> int:
    """How many values there are once every alias is what it stands for; too many where one is in itself."""
    if node in within:
        return _MOST_VALUES + 1
    if isinstance(node, yaml.ScalarNode):
        return 1
    below = [one for pair in node.value for one in (pair if isinstance(pair, tuple) else (pair,))]
    count = 1
    for one in below:
        count += _values(one, (*within, node))
        if count > _MOST_VALUES:
            break
    return count


def written(value: Any) -> str:
    """A plain value as YAML that reads as the same value: one line for what is small, a last line end."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )


class _Dumper(yaml.SafeDumper):
    """Texts of several lines are written as they stand, and the whole never as one line in braces."""

    def serialize(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.CollectionNode):
            node.flow_style = False
        super().serialize(node)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
