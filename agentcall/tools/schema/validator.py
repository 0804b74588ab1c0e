"""Validates arguments against a JSON Schema from outside at a bounded cost.

Rules:
1. Patterns are matched in linear time (regex.py), without backtracking.
2. Each check of a value by a keyword is a step, and so is each part of a comparison. The arguments
   of one call take at most `MAX_STEPS`, whatever the schema requires.
3. A nested schema cannot choose other rules: its `$schema` is ignored.
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
from agentcall.tools.schema._definitions import Schema, is_list, is_schema, prune_schema
from agentcall.tools.schema.metaschema import is_plainly_valid
from agentcall.tools.schema.regex import PatternError, compile_pattern, iter_patterns

MAX_STEPS = 50_000
MAX_DEPTH = 120
"""Nested checks."""

Validator: TypeAlias = Any  # Any: jsonschema creates its classes at import
Errors: TypeAlias = Iterable[ValidationError]
Check: TypeAlias = Callable[[Validator, Any, Any, Schema], "Errors | None"]
"""A keyword: the validator, the keyword's value, the checked value, and the schema."""


class TooCostly(Exception):
    """Validating these arguments would take too many steps."""


class _Budget:
    """The remaining steps of one validation."""

    def __init__(self) -> None:
        self._left = MAX_STEPS
        self._depth = 0

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooCostly(f"over {MAX_STEPS} steps")

    def enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooCostly(f"over {MAX_DEPTH} checks within each other")

    def leave(self) -> None:
        self._depth -= 1


_budget: ContextVar[_Budget] = ContextVar("budget")


def create_validator(schema: Schema, name: str) -> Validator:
    """Create the validator of a tool's arguments. Raises SchemaError for an invalid schema."""
    validators: Any = jsonschema.validators
    kind = validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    if not is_plainly_valid(schema):
        _check_metaschema(kind, schema, name)
    patterns = list(iter_patterns(schema))
    for keyword, pattern in patterns:
        try:
            compile_pattern(pattern)
        except PatternError as error:
            raise SchemaError(
                f"the tool {name} has a {keyword} that cannot be checked in linear time ({error}): "
                f"{pattern[:200]!r}; write it without that, or let the function check it"
            ) from error
    left_out = {"$schema"}
    if any(keyword == "patternProperties" for keyword, _ in patterns):
        left_out |= {"unevaluatedProperties"}  # jsonschema matches its names by Python's engine
    return _bind_registry(
        _make_counting_class(kind), prune_schema(schema, lambda key, _: key in left_out)
    )


def _check_metaschema(kind: Any, schema: Schema, name: str) -> None:  # Any: as Validator
    try:
        # a format may be of another dialect: ignore it
        kind.check_schema(schema, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        raise SchemaError(
            f"the tool {name} has an invalid JSON Schema: {error.json_path}: {error.message:.500}"
        ) from error
    except Exception as error:  # an unknown metaschema, or a schema that breaks jsonschema
        raise SchemaError(f"the tool {name} has an invalid JSON Schema: {error!r:.500}") from error


def _bind_registry(kind: Any, schema: object) -> Validator:  # Any: as Validator
    """Create a validator that knows the documents within the schema, and no others."""
    identity = kind.ID_OF(kind.META_SCHEMA)
    resource: Any = specification_with(identity).create_resource(cast("Any", schema))
    uri = resource.id() or ""
    registry: Any = Registry[Any]().with_resource(uri, resource).crawl()
    return kind(schema, registry=registry, _resolver=registry.resolver(uri))


def iter_errors(validator: Validator, value: object) -> Iterator[ValidationError]:
    """Yield the errors of a value. Raises TooCostly."""
    _budget.set(_Budget())
    try:
        yield from validator.iter_errors(value)
    except TooCostly:
        raise
    except RecursionError:
        raise TooCostly("checks too deep within each other") from None
    except Exception:  # a reference elsewhere, or not to a schema: the tool decides
        return


@lru_cache(maxsize=16)
def _make_counting_class(kind: Any) -> Any:  # Any: as Validator
    """Create a validator class that counts every check as a step."""
    checks: Mapping[str, Check] = {**kind.VALIDATORS, **_OWN_CHECKS}
    supported = {key: check for key, check in checks.items() if key in kind.VALIDATORS}
    validators: Any = jsonschema.validators
    counting = validators.extend(
        kind, validators={key: _count_steps(check) for key, check in supported.items()}
    )
    # jsonschema calls `evolve` for each subschema, also those that need no check of ours.
    evolve = counting.evolve

    def spend_and_evolve(self: Validator, **changes: object) -> Validator:
        _budget.get().spend(1)
        return evolve(self, **changes)

    counting.evolve = spend_and_evolve
    return counting


def _count_steps(check: Check) -> Check:
    def run_check(validator: Validator, expected: Any, value: Any, schema: Schema) -> Errors:
        budget = _budget.get()
        budget.spend(1 + _measure_size(expected) + _measure_size(value))
        budget.enter()
        try:
            for error in check(validator, expected, value, schema) or ():
                budget.spend(1 + len(error.message) // 64)
                yield error
        finally:
            budget.leave()

    return run_check


def _measure_size(value: object) -> int:
    """Return the steps that reading all of a value takes."""
    return len(cast("Any", value)) // 16 if isinstance(value, (list, dict, str)) else 0


def _matches(pattern: str, text: str) -> bool:
    compiled = compile_pattern(pattern)
    _budget.get().spend(1 + len(text) * compiled.size // 500)
    return compiled.matches(text)


def _check_pattern(_: Validator, pattern: str, value: object, schema: Schema) -> Errors:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _check_pattern_properties(
    validator: Validator, names: Schema, value: Any, schema: Schema
) -> Errors:
    for pattern, inner in names.items() if is_schema(value) else ():
        for name, item in value.items():
            if _matches(pattern, name):
                yield from validator.descend(item, inner, path=name, schema_path=pattern)


def list_extra_names(schema: Schema, value: Schema) -> Sequence[str]:
    """Return the names in an object that its schema does not mention."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [
        name
        for name in value
        if name not in known and not any(_matches(pattern, name) for pattern in patterns)
    ]


def _check_additional(validator: Validator, expected: Any, value: Any, schema: Schema) -> Errors:
    if not is_schema(value):
        return
    extra = list_extra_names(schema, value)
    if is_schema(expected):
        for name in extra:
            yield from validator.descend(value[name], expected, path=name)
    elif expected is False and extra:
        yield ValidationError(f"no arguments of these names are known: {', '.join(extra)}")


def _check_unique(_: Validator, expected: object, value: object, schema: Schema) -> Errors:
    if expected is True and is_list(value) and len(set(map(_to_comparable, value))) < len(value):
        yield ValidationError("some of its items are alike")


def _to_comparable(value: object) -> Hashable:
    """Return a value with JSON's equality: 1 equals 1.0, but not true."""
    _budget.get().spend(1)
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    if is_list(value):
        return ("list", *map(_to_comparable, value))
    if is_schema(value):
        return frozenset((name, _to_comparable(item)) for name, item in value.items())
    return value if isinstance(value, Hashable) else str(value)


def _check_multiple(_: Validator, factor: float, value: object, schema: Schema) -> Errors:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if _to_fraction(value) % _to_fraction(factor):
        yield ValidationError(f"{value!r} is not a multiple of {factor!r}")


def _to_fraction(number: float) -> Fraction:
    """Return the decimal number as written: 0.3 is a multiple of 0.1."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


_OWN_CHECKS: Mapping[str, Check] = {
    "pattern": _check_pattern,
    "patternProperties": _check_pattern_properties,
    "additionalProperties": _check_additional,
    "uniqueItems": _check_unique,
    "multipleOf": _check_multiple,
    "divisibleBy": _check_multiple,
}
