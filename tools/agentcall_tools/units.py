"""Unit conversion by pint, with unit names as models and people write them.

Rules: pint parses only the output of `_normalize_unit`: known unit names, one-digit powers, * and
/. A model's text never reaches pint's own expression parser, so it cannot make it compute large
numbers.
"""

import difflib
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol, cast

from agentcall import tool
from agentcall.errors import MissingExtra

MAX_UNIT_LENGTH = 60
MAX_FACTORS = 8

_TEMPERATURE_LETTERS = {
    "C": "degC",
    "c": "degC",
    "F": "degF",
    "f": "degF",
    "K": "kelvin",
    "k": "kelvin",
}
_ALIASES = {
    "°c": "degC", "℃": "degC", "celsius": "degC", "centigrade": "degC", "degree celsius": "degC",
    "degrees celsius": "degC", "deg c": "degC", "摄氏度": "degC", "摄氏": "degC",
    "°f": "degF", "℉": "degF", "fahrenheit": "degF", "degree fahrenheit": "degF",
    "degrees fahrenheit": "degF", "deg f": "degF", "华氏度": "degF", "华氏": "degF",
    "°k": "kelvin", "开尔文": "kelvin", "°": "degree", "度": "degree",
    "kmh": "km/hour", "kph": "km/hour", "kmph": "km/hour", "km/hr": "km/hour", "mph": "mile/hour",
    "fps": "foot/second", "mps": "m/s", "公里每小时": "km/hour", "公里/小时": "km/hour",
    "l/100km": "liter_per_100_kilometer", "l/100 km": "liter_per_100_kilometer",
    "mpg": "mile/gallon", "fl oz": "fluid_ounce", "floz": "fluid_ounce", "fl. oz.": "fluid_ounce",
    "fluid ounce": "fluid_ounce", "fluid ounces": "fluid_ounce", "nautical mile": "nautical_mile",
    "nautical miles": "nautical_mile", "light year": "light_year", "light years": "light_year",
    "imperial gallon": "imperial_gallon", "imperial gallons": "imperial_gallon",
    "metric ton": "metric_ton", "metric tons": "metric_ton", "short ton": "short_ton",
    "long ton": "long_ton", "troy ounce": "troy_ounce", "troy ounces": "troy_ounce",
    "sq ft": "foot**2", "sqft": "foot**2", "sq m": "m**2", "sqm": "m**2", "sq km": "km**2",
    "sq mi": "mile**2", "cc": "cm**3", "cbm": "m**3", "cu ft": "foot**3", "cbft": "foot**3",
    "英里": "mile", "海里": "nautical_mile", "英尺": "foot", "英寸": "inch", "码": "yard",
    "公里": "km", "千米": "km", "米": "m", "厘米": "cm", "毫米": "mm", "里": "li",
    "光年": "light_year", "公斤": "kg", "千克": "kg", "克": "g", "毫克": "mg", "吨": "metric_ton",
    "斤": "jin", "两": "liang",
    "磅": "pound", "盎司": "ounce", "升": "liter", "毫升": "ml", "加仑": "gallon",
    "平方米": "m**2", "平方公里": "km**2", "公顷": "hectare", "亩": "mu_area", "英亩": "acre",
    "立方米": "m**3", "立方厘米": "cm**3", "小时": "hour", "分钟": "minute", "秒": "second",
    "天": "day", "周": "week", "年": "year", "焦耳": "joule", "千瓦时": "kilowatt_hour",
    "大卡": "kilocalorie", "卡路里": "calorie", "帕": "pascal", "大气压": "atmosphere",
    "瓦": "watt",
    "千瓦": "kilowatt", "马力": "metric_horsepower", "字节": "byte",
    "km": "km", "kg": "kg", "cm": "cm", "lb": "pound", "lbs": "pound", "ft": "foot", "hr": "hour",
    "hrs": "hour", "sec": "second", "secs": "second", "mins": "minute", "ml": "ml", "kcal":
    "kilocalorie", "ltr": "liter", "kwh": "kilowatt_hour", "jin": "jin", "liang": "liang",
    "mu": "mu_area", "hz": "hertz", "'": "foot", "′": "foot", '"': "inch", "″": "inch",
    "ft lb": "foot*pound_force", "ft-lb": "foot*pound_force", "ft lbs": "foot*pound_force",
    "foot pound": "foot*pound_force", "foot pounds": "foot*pound_force",
}  # fmt: skip
_CASE_SENSITIVE_ALIASES = {
    "KB": "kilobyte", "Kb": "kilobit", "kb": "kilobit", "Mb": "megabit", "Gb": "gigabit",
          "Tb": "terabit", "b": "bit", "Kbps": "kilobit/second", "kbps": "kilobit/second",
          "Mbps": "megabit/second", "Gbps": "gigabit/second", "MM": "mm"}  # fmt: skip
_DEFINITIONS = (
    "liter_per_100_kilometer = liter / (100 * kilometer)",
    "jin = 0.5 * kilogram",
    "liang = 0.05 * kilogram",
    "li = 500 * meter",
    "mu_area = 2000 / 3 * meter ** 2",
)
_CURRENCY = re.compile(
    "usd|eur|gbp|cny|rmb|jpy|krw|inr|hkd|twd|aud|cad|chf|sgd|rub|brl|btc|eth|dollars?|euros?|yuan"
    "|yen|rupees?|sterling|[$€£¥￥元]|美元|人民币|欧元|英镑|日元|港币"
)
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_TOKEN = re.compile(r" *(?:(\*\*|\^)? *(-?[0-9](?![0-9.]))|([^\W\d_][\w%]*|%)|(\*|/))")


class PintUnit(Protocol):
    """The part of pint's Unit that is used here; pint's own types leave most of it unknown."""

    @property
    def dimensionality(self) -> Any: ...  # pint's UnitsContainer, only compared


class PintQuantity(PintUnit, Protocol):
    """A number with a unit."""

    @property
    def magnitude(self) -> float: ...

    def to(self, other: PintUnit | str) -> "PintQuantity": ...

    def __rtruediv__(self, other: int) -> "PintQuantity": ...


class PintRegistry(Protocol):
    """pint's registry of units."""

    def Quantity(self, value: float, units: PintUnit) -> PintQuantity: ...  # noqa: N802  pint's name

    def parse_units(self, text: str) -> PintUnit: ...

    def define(self, definition: str) -> None: ...

    def __contains__(self, name: str) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...


def convert(value: float, from_unit: str, to_unit: str) -> str:
    """Converts a measure from one unit to another: length, mass, temperature, speed, data...

    Args:
        value: The number to convert.
        from_unit: Its unit, for example "km/h", "°C", "lb", "m^2", "kWh" or "GB".
        to_unit: The unit wanted, of the same kind. Currencies are not known.
    """
    if not math.isfinite(value):
        raise ValueError(f"cannot convert {value}: give a finite number")
    source, target = _resolve_units(from_unit, to_unit)
    return _convert_value(value, source, target)


def _resolve_units(from_unit: str, to_unit: str) -> tuple[str, str]:
    """Return both units as pint's names; C, F and K are temperatures if both can be."""
    first, second = from_unit.strip(), to_unit.strip()
    temperatures = set(_TEMPERATURE_LETTERS.values())
    units = [
        _TEMPERATURE_LETTERS.get(unit) or _ALIASES.get(unit.lower(), unit)
        for unit in (first, second)
    ]
    if all(unit in temperatures for unit in units):
        return units[0], units[1]
    return _normalize_unit(first), _normalize_unit(second)


def _normalize_unit(unit: str) -> str:
    """Return the unit as pint's names, powers, * and /. Raise ValueError if it isn't one."""
    text = re.sub(r"\s+", " ", unit.strip())
    if not text or len(text) > MAX_UNIT_LENGTH:
        raise ValueError(f"a unit has 1 to {MAX_UNIT_LENGTH} characters, got {len(text)}")
    if _CURRENCY.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is a currency: exchange rates change, this tool has none")
    alias = _CASE_SENSITIVE_ALIASES.get(text) or _ALIASES.get(text.lower())
    return alias or _parse_product(text)


def _parse_product(unit: str) -> str:
    """Parse a product of units, factor by factor."""
    text = unit.translate(_POWERS).replace("·", "*").replace("⋅", "*").replace("×", "*")
    text = re.sub(r"\bper\b|每|÷", "/", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:square|sq) (\w+)", r"\1^2", text, flags=re.IGNORECASE)
    text = re.sub(r"\bcubic (\w+)", r"\1^3", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(\w+) squared\b", r"\1^2", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(\w+) cubed\b", r"\1^3", text, flags=re.IGNORECASE)
    text = re.sub(r"/ *\(([^()/]*)\)", lambda m: "/" + re.sub(r"[* ]+", "/", m[1].strip()), text)
    parts: list[str] = []
    position, factors = 0, 0
    if text.startswith("1/"):
        parts, position = ["1"], 1
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match:
            raise ValueError(_describe_unreadable(unit))
        position = match.end()
        power, name, sign = match.group(2), match.group(3), match.group(4)
        if sign or power:
            parts.append(sign or f"**({power})")
        else:
            factors += 1
            if parts and parts[-1] not in ("*", "/"):
                parts.append("*")
            parts.append(_find_unit(name))
    if not factors or factors > MAX_FACTORS or not _is_well_formed(parts):
        raise ValueError(_describe_unreadable(unit))
    return "".join(parts)


def _is_well_formed(parts: list[str]) -> bool:
    """Return whether names, powers and signs have an order as in m**(2)/s."""
    kinds = "".join("s" if p in "*/" else "p" if p.startswith("**") else "n" for p in parts)
    return re.fullmatch(r"np?(?:snp?)*", kinds) is not None


def _describe_unreadable(unit: str) -> str:
    return (
        f"cannot read {unit[:MAX_UNIT_LENGTH]!r} as a unit: write names with * / and powers of one "
        "digit, such as km/h, m^2 or kg*m/s^2, and no numbers"
    )


def _find_unit(name: str) -> str:
    """Return pint's name for one unit; the ValueError suggests close matches."""
    lower = name.lower()
    if _CURRENCY.fullmatch(lower):
        raise ValueError(f"{name!r} is a currency: exchange rates change, this tool has none")
    registry = _load_registry()
    alias = _CASE_SENSITIVE_ALIASES.get(name) or _ALIASES.get(lower)
    if alias:
        return f"({alias})"
    candidates = [name, name.replace("µ", "u").replace("μ", "u")]
    candidates += [lower] if len(name) > 3 else []
    for candidate in candidates:
        if (candidate == "%" or candidate.isidentifier()) and candidate in registry:
            return candidate
    power = re.fullmatch(r"(\D+)([2-9])", name)
    if power:
        return f"{_find_unit(power.group(1))}**{power.group(2)}"
    near = difflib.get_close_matches(lower, _list_unit_names(), n=4, cutoff=0.6)
    hint = f"; close matches: {', '.join(near)}" if near else ""
    raise ValueError(f"unknown unit {name!r}{hint}")


def _convert_value(value: float, source: str, target: str) -> str:
    registry = _load_registry()
    from pint import DimensionalityError, OffsetUnitCalculusError, UndefinedUnitError

    try:
        quantity = registry.Quantity(value, registry.parse_units(source))
        unit = registry.parse_units(target)
        if quantity.dimensionality != unit.dimensionality == quantity.dimensionality**-1:
            quantity = 1 / quantity
        result = quantity.to(unit).magnitude
    except DimensionalityError as error:
        raise ValueError(
            f"cannot convert {error.units1} {error.dim1} to {error.units2} {error.dim2}: "
            "both units must measure the same thing"
        ) from None
    except (OffsetUnitCalculusError, UndefinedUnitError) as error:
        raise ValueError(f"cannot convert {source} to {target}: {error}") from None
    except (OverflowError, ZeroDivisionError):
        raise ValueError("the result is too large to be a number") from None
    if not math.isfinite(result):
        raise ValueError("the result is too large to be a number")
    if "kelvin" in (source, target) or "deg" in source[:3]:
        _refuse_below_zero(registry, value, source)
    return f"{value:.12g} {registry.parse_units(source)} = {result:.12g} {unit}"


def _refuse_below_zero(registry: PintRegistry, value: float, source: str) -> None:
    kelvin = registry.Quantity(value, registry.parse_units(source))
    absolute = registry.parse_units("kelvin")
    if kelvin.dimensionality == absolute.dimensionality and kelvin.to(absolute).magnitude < -1e-9:
        raise ValueError(f"{value:g} {source} is below absolute zero (-273.15 degC)")


@lru_cache(maxsize=1)
def _load_registry() -> PintRegistry:
    try:
        from pint import UnitRegistry
    except ImportError as error:
        raise MissingExtra.for_feature("convert_units", "tools", error) from None

    registry = cast(PintRegistry, UnitRegistry())
    for definition in _DEFINITIONS:
        registry.define(definition)
    return registry


@lru_cache(maxsize=1)
def _list_unit_names() -> list[str]:
    return sorted({*map(str, _load_registry()), *(name for name in _ALIASES if name.isascii())})


convert_units = tool(name="convert_units", idempotent=True, read_only=True, timeout=10)(convert)
