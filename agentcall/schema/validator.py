"""A JSON Schema from elsewhere, with which arguments are checked at a bounded cost.

Rules:
1. Patterns are matched in linear time (`pattern`), by no engine that goes back.
2. Each check of a value by a keyword is a step, and so is each part of what is compared: the
   arguments of one call take at most `STEPS`, whatever the schema makes of them.
3. A schema within a schema chooses no other rules: its `$schema` is left out.
4. References to other documents are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias, cast

import jsonschema
import jsonschema.validators
from jsonschema import ValidationError
from referencing import Registry
from referencing.jsonschema import specification_with

from agentcall.errors import SchemaError
from agentcall.schema.definitions import Schema, is_list, is_schema, pruned
from agentcall.schema.metaschema import is_plainly_valid
from agentcall.schema.pattern import PatternError, pattern_of, patterns_in

STEPS = 50_000
DEEPEST = 120
"""Checks within each other."""

Validator: TypeAlias = Any  # Any: jsonschema's classes are made as it is imported
Errors: TypeAlias = Iterable[ValidationError]
Check: TypeAlias = Callable[[Validator, Any, Any, Schema], "Errors | None"]
"""A keyword: the validator, the keyword's value, what is checked, and the schema."""


class TooCostly(Exception):
    """To check these arguments would take too many steps."""


class _Budget:
    """What is left to one check of arguments."""

    def __init__(self) -> None:
        self._left = STEPS
        self._depth = 0

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooCostly(f"over {STEPS} steps")

    def enter(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise TooCostly(f"over {DEEPEST} checks within each other")

    def leave(self) -> None:
        self._depth -= 1


_budget: ContextVar[_Budget] = ContextVar("budget")


def validator_of(schema: Schema, name: str) -> Validator:
    """What checks a tool's arguments. Raises SchemaError for what is no JSON Schema."""
    validators: Any = jsonschema.validators
    kind = validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    if not is_plainly_valid(schema):
        _check(kind, schema, name)
    patterns = list(patterns_in(schema))
    for place, pattern in patterns:
        try:
            pattern_of(pattern)
        except PatternError as error:
            raise SchemaError(
                f"the tool {name} has a {place} that cannot be checked in linear time ({error}): "
                f"{pattern[:200]!r}; write it without, or leave it to the function"
            ) from error
    left_out = {"$schema"}
    if any(place == "patternProperties" for place, _ in patterns):
        left_out |= {"unevaluatedProperties"}  # jsonschema's own matches names by Python's engine
    return _resolving(_counting(kind), pruned(schema, lambda key, _: key in left_out))


def _check(kind: Any, schema: Schema, name: str) -> None:  # Any: as Validator
    try:
        # a format may be of another dialect: it is not looked at
        kind.check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        raise SchemaError(
            f"the tool {name} has no valid JSON Schema: {error.json_path}: {error.message:.500}"
        ) from error
    except Exception as error:  # a metaschema of its own, or what breaks the library
        raise SchemaError(f"the tool {name} has no valid JSON Schema: {error!r:.500}") from error


def _resolving(kind: Any, schema: object) -> Validator:  # Any: as Validator
    """A validator that knows the documents within the schema, and no others."""
    identity = kind.ID_OF(kind.META_SCHEMA)
    resource: Any = specification_with(identity).create_resource(cast("Any", schema))
    place = resource.id() or ""
    registry: Any = Registry[Any]().with_resource(place, resource).crawl()
    return kind(schema, registry=registry, _resolver=registry.resolver(place))


def errors_of(validator: Validator, value: object) -> Iterator[ValidationError]:
    """What is wrong with a value. Raises TooCostly."""
    _budget.set(_Budget())
    try:
        yield from validator.iter_errors(value)
    except TooCostly:
        raise
    except RecursionError:
        raise TooCostly("checks too deep within each other") from None
    except Exception:  # a reference elsewhere, or to what is no schema: the tool itself will judge
        return


@lru_cache(maxsize=16)
def _counting(kind: Any) -> Any:  # Any: as Validator
    """A class of validators whose every check is a step."""
    checks: Mapping[str, Check] = {**kind.VALIDATORS, **_OURS}
    known = {key: check for key, check in checks.items() if key in kind.VALIDATORS}
    validators: Any = jsonschema.validators
    made = validators.extend(
        kind, validators={key: _counted(check) for key, check in known.items()}
    )
    evolve = made.evolve

    def evolved(self: Validator, **changes: object) -> Validator:
        _budget.get().spend(1)
        return evolve(self, **changes)

    made.evolve = evolved
    return made


def _counted(check: Check) -> Check:
    def counted(validator: Validator, wanted: Any, value: Any, schema: Schema) -> Errors:
        budget = _budget.get()
        budget.spend(1 + _size(wanted) + _size(value))
        budget.enter()
        try:
            for error in check(validator, wanted, value, schema) or ():
                budget.spend(1 + len(error.message) // 64)
                yield error
        finally:
            budget.leave()

    return counted


def _size(value: object) -> int:
    """Steps that it takes to look at all of a value once."""
    return len(cast("Any", value)) // 16 if isinstance(value, (list, dict, str)) else 0


def _matches(pattern: str, text: str) -> bool:
    found = pattern_of(pattern)
    _budget.get().spend(1 + len(text) * found.size // 500)
    return found.matches(text)


def _pattern(_: Validator, pattern: str, value: object, schema: Schema) -> Errors:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Validator, names: Schema, value: Any, schema: Schema) -> Errors:
    for pattern, inner in names.items() if is_schema(value) else ():
        for name, item in value.items():
            if _matches(pattern, name):
                yield from validator.descend(item, inner, path=name, schema_path=pattern)


def extra_names(schema: Schema, value: Schema) -> Sequence[str]:
    """The names in an object that its schema does not speak of."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [
        name
        for name in value
        if name not in known and not any(_matches(pattern, name) for pattern in patterns)
    ]


def _additional(validator: Validator, wanted: Any, value: Any, schema: Schema) -> Errors:
    if not is_schema(value):
        return
    extra = extra_names(schema, value)
    if is_schema(wanted):
        for name in extra:
            yield from validator.descend(value[name], wanted, path=name)
    elif wanted is False and extra:
        yield ValidationError(f"no arguments of these names are known: {', '.join(extra)}")


def _unique(_: Validator, wanted: object, value: object, schema: Schema) -> Errors:
    if wanted is True and is_list(value) and len(set(map(_comparable, value))) < len(value):
        yield ValidationError("some of its items are alike")


def _comparable(value: object) -> Hashable:
    """A value that is equal where the JSON is: 1 is 1.0, and not true."""
    _budget.get().spend(1)
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    if is_list(value):
        return ("list", *map(_comparable, value))
    if is_schema(value):
        return frozenset((name, _comparable(item)) for name, item in value.items())
    return value if isinstance(value, Hashable) else str(value)


def _multiple(_: Validator, factor: float, value: object, schema: Schema) -> Errors:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if _exact(value) % _exact(factor):
        yield ValidationError(f"{value!r} is not a multiple of {factor!r}")


def _exact(number: float) -> Fraction:
    """The decimal number that was written: 0.3 is a multiple of 0.1."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


_OURS: Mapping[str, Check] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "uniqueItems": _unique,
    "multipleOf": _multiple,
    "divisibleBy": _multiple,
}
