"""Values made from a message's own schema: ordinary ones, those at its bounds, those beyond.

Everything here is plain (what MessagePack or JSON hold), so that what a schema would never let
into a struct can be sent all the same.
"""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from muster_protocol.wire import limits

Path = tuple[str | int, ...]
NOT_NUMBERS = (math.nan, math.inf, -math.inf)
INTEGERS = (2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**31), -(2**63))
DIRTY = (
    "\0", "a\0b", "\x1b]52;c;ZXZpbA==\x07", "\x1b[2J\x1b[H", "\x9b31m", "safe\u202etxt.exe",
    "\u2066x\u2069", "\r\n", "\u2028", "\x7f",
)  # fmt: skip
ODD = ("", " ", "é", "\U0001f600", "\u0640" * 40, "'; DROP TABLE device; --", "../../etc/passwd")


def leaves(kind: Any) -> Iterator[tuple[Path, inspect.Type]]:
    """(Where, type) of every number, text and byte string in messages of this kind."""
    yield from _leaves(inspect.type_info(kind), ())


def _leaves(info: inspect.Type, at: Path) -> Iterator[tuple[Path, inspect.Type]]:  # noqa: C901 (one case a kind)
    match info:
        case inspect.StructType():
            for number, field in enumerate(info.fields):
                step = number if info.array_like else field.encode_name
                yield from _leaves(field.type, (*at, step))
        case inspect.ListType() | inspect.VarTupleType():
            yield from _leaves(info.item_type, (*at, "[]"))
        case inspect.TupleType():
            for number, item in enumerate(info.item_types):
                yield from _leaves(item, (*at, number))
        case inspect.DictType():
            yield from _leaves(info.key_type, (*at, "{key}"))
            yield from _leaves(info.value_type, (*at, "{}"))
        case inspect.UnionType():
            for item in info.types:
                yield from _leaves(item, at)
        case inspect.Metadata():
            yield from _leaves(info.type, at)
        case inspect.IntType() | inspect.FloatType() | inspect.StrType() | inspect.BytesType():
            yield at, info
        case inspect.AnyType():
            yield at, info
        case _:
            return


def at_bounds(info: inspect.Type) -> list[Any]:
    """The least and the greatest values that a leaf takes."""
    match info:
        case inspect.IntType():
            return [value for value in (info.ge, info.gt, info.le, info.lt) if value is not None]
        case inspect.FloatType():
            least = info.ge if info.ge is not None else math.nextafter(info.gt or 0.0, math.inf)
            return [least, info.le, max(5e-324, least)]
        case inspect.BytesType():
            return [bytes(info.min_length or 0), bytes(info.max_length or 0)]
        case _:
            return []


def beyond(info: inspect.Type) -> list[Any]:
    """Values of the leaf's own type that it refuses."""
    match info:
        case inspect.IntType():
            least, most = info.ge, info.le
            found = [most + 1] if most is not None else []
            found += [least - 1] if least is not None else []
            return found + [value for value in INTEGERS if not _within(value, least, most)]
        case inspect.FloatType():
            most = math.nextafter(info.le or 0.0, math.inf)
            return [*NOT_NUMBERS, most, 1.7e308]
        case inspect.StrType():
            return ["x" * ((info.max_length or 0) + 1)]
        case inspect.BytesType():
            return [bytes((info.max_length or 0) + 1)]
        case _:
            return []


def _within(value: int, least: int | None, most: int | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def replaced(tree: Any, at: Path, value: Any) -> Any:
    """A plain value with what stands at a path replaced; of lists and maps the first entry's."""
    if not at:
        return value
    step, rest = at[0], at[1:]
    if step == "[]":
        some = list(tree) if tree else [None]
        return [replaced(some[0], rest, value), *some[1:]]
    if step in ("{key}", "{}"):
        some = dict(tree or {"": None})
        key = next(iter(some))
        held = some.pop(key)
        return (
            {value: held, **some} if step == "{key}" else {key: replaced(held, rest, value), **some}
        )
    if isinstance(step, int):
        made = list(tree or [])
        made += [None] * (step + 1 - len(made))
        made[step] = replaced(made[step], rest, value)
        return made
    made = dict(tree or {})
    return made | {step: replaced(made.get(step), rest, value)}


class Sampler:
    """Random plain values of a schema, of which about ``hostile`` of the leaves are not as asked.

    The same seed gives the same values.
    """

    def __init__(self, rng: random.Random, hostile: float = 0.0) -> None:
        self._rng = rng
        self._hostile = hostile

    def of(self, kind: Any) -> Any:
        return self._of(inspect.type_info(kind))

    def _of(self, info: inspect.Type, depth: int = 0) -> Any:  # noqa: C901 (one case a kind)
        if self._rng.random() < self._hostile / 20:
            return self._rng.choice([None, True, [], {}, "x", -1, 1.5, b"\xff", [[]] * 3])
        match info:
            case inspect.StructType():
                return self._struct(info, depth)
            case inspect.ListType() | inspect.VarTupleType():
                return [self._of(info.item_type, depth + 1) for _ in range(self._size(info, depth))]
            case inspect.TupleType():
                return [self._of(item, depth + 1) for item in info.item_types]
            case inspect.DictType():
                size = self._size(info, depth)
                return {
                    self._text(info.key_type): self._of(info.value_type, depth + 1)
                    for _ in range(size)
                }
            case inspect.UnionType():
                return self._of(self._rng.choice(info.types), depth)
            case inspect.Metadata():
                return self._of(info.type, depth)
            case inspect.LiteralType():
                return self._rng.choice(info.values)
            case inspect.BoolType():
                return self._rng.random() < 0.5
            case inspect.NoneType():
                return None
            case _:
                return self._leaf(info)

    def _struct(self, info: inspect.StructType, depth: int) -> Any:
        values: dict[str, Any] = {}
        for field in info.fields:
            if field.required or info.array_like or self._rng.random() < 0.7:
                values[field.encode_name] = self._of(field.type, depth + 1)
        if info.array_like:
            return list(values.values())
        if self._rng.random() < self._hostile / 20 and values:
            del values[self._rng.choice(list(values))]
        return values

    def _size(self, info: Any, depth: int) -> int:
        least, most = info.min_length or 0, info.max_length
        if self._rng.random() < self._hostile / 20:
            return min((most or 8) + 1, 300)
        usual = self._rng.choice((0, 1, 1, 2, 3 if depth < 3 else 1))
        return max(least, min(usual, most if most is not None else usual))

    def _text(self, info: inspect.Type) -> Any:
        value = self._leaf(info)
        return value if isinstance(value, str) else str(value)

    def _leaf(self, info: inspect.Type) -> Any:
        rng = self._rng
        if rng.random() < self._hostile:
            dirty = DIRTY if isinstance(info, inspect.StrType) else ()
            return rng.choice([*beyond(info), *dirty, *at_bounds(info)] or [None])
        if rng.random() < 0.2 and (edges := at_bounds(info)):
            return rng.choice(edges)
        match info:
            case inspect.IntType():
                least, most = info.ge or 0, info.le or limits.INTEGER_MAX
                return rng.randint(least, min(most, least + rng.choice((1, 100, 10**6))))
            case inspect.FloatType():
                return rng.uniform(max(info.ge or 0.0, 0.0), min(info.le or 1e6, 1e6))
            case inspect.StrType():
                most = info.max_length or 64
                return rng.choice((*ODD, "vision", "digits", "1.0.0", "ab" * 32))[:most]
            case inspect.BytesType():
                least, most = info.min_length or 0, info.max_length or 64
                return rng.randbytes(rng.randint(least, max(min(most, least + 16), least)))
            case _:
                return None


def encoded(tree: Any) -> bytes:
    """MessagePack of a plain value, whatever it is."""
    return msgspec.msgpack.encode(tree)


def _both_ways(info: Any) -> bool:
    below, above = (info.ge, info.gt), (info.le, info.lt)
    return any(value is not None for value in below) and any(value is not None for value in above)


def unbounded(kinds: Mapping[str, Any]) -> list[str]:
    """Numbers and texts without bounds among these schemas, in words."""
    found = []
    for name, kind in kinds.items():
        for at, info in leaves(kind):
            where = ".".join(map(str, (name, *at)))
            numeric = isinstance(info, inspect.IntType | inspect.FloatType)
            if numeric and not _both_ways(info):
                found.append(f"{where}: a number without bounds")
            match info:
                case inspect.StrType() if info.max_length is None or info.pattern is None:
                    found.append(f"{where}: a text of any length, or of any characters")
                case inspect.BytesType() if info.max_length is None:
                    found.append(f"{where}: bytes without a limit")
                case inspect.AnyType():
                    found.append(f"{where}: anything at all")
                case _:
                    pass
    return found
