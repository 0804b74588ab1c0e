"""Units: what models write is read, and their text cannot make pint work hard."""

import math
import subprocess
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall_tools.units import convert, convert_units

CONVERSIONS = [
    (20, "C", "F", 68),
    (100, "°C", "°F", 212),
    (-40, "degC", "degF", -40),
    (0, "K", "celsius", -273.15),
    (37, "摄氏度", "华氏度", 98.6),
    (72, "Fahrenheit", "℃", 22.2222222222),
    (300, "kelvin", "degrees Celsius", 26.85),
    (1, "degC/min", "K/s", 1 / 60),
    (100, "km/h", "mph", 62.1371192237),
    (60, "mi/h", "kph", 96.56064),
    (5, "km per hour", "m/s", 1.38888888889),
    (5, "km", "miles", 3.10685596119),
    (1, "Meter", "CM", 100),
    (12, "inches", "cm", 30.48),
    (6, "ft", "m", 1.8288),
    (1, "light year", "km", 9460730472580.8),
    (1, "µm", "nm", 1000),
    (10, "公里", "里", 20),
    (1, "m2", "sq ft", 10.7639104167),
    (1, "m^2", "cm²", 10000),
    (1, "square meters", "square feet", 10.7639104167),
    (1, "亩", "平方米", 666.666666667),
    (5, "m³", "liters", 5000),
    (1, "cubic meter", "L", 1000),
    (8, "fl oz", "ml", 236.5882365),
    (1, "gallon", "liter", 3.785411784),
    (1, "lbs", "kg", 0.45359237),
    (1, "KG", "g", 1000),
    (3, "斤", "kg", 1.5),
    (1, "metric ton", "kg", 1000),
    (1, "oz", "g", 28.349523125),
    (1, "GB", "MB", 1000),
    (1, "GiB", "MiB", 1024),
    (1, "KB", "byte", 1000),
    (1, "Mbps", "MB/s", 0.125),
    (1, "kWh", "J", 3600000),
    (1, "kcal", "kJ", 4.184),
    (1, "hp", "kW", 0.745699871582),
    (1, "eV", "J", 1.602176634e-19),
    (1, "atm", "psi", 14.6959487755),
    (1, "kg*m/s^2", "N", 1),
    (1, "W/(m^2 K)", "W/m^2/K", 1),
    (1, "m/s/s", "ft s^-2", 3.28083989501),
    (1, "ft lb", "J", 1.35581794833),
    (50, "Hz", "1/s", 50),
    (180, "degrees", "rad", math.pi),
    (30, "mpg", "L/100km", 7.84048611111),
    (90, "min", "hours", 1.5),
    (50, "%", "dimensionless", 0.5),
]
REFUSALS = [
    ("USD", "CNY", "currency"),
    ("$", "euro", "currency"),
    ("人民币", "美元", "currency"),
    ("m", "kg", r"\[length\].*\[mass\]"),
    ("mete", "km", "close matches: .*meter"),
    ("blorps", "km", "unknown unit 'blorps'"),
    ("", "m", "1 to 60 characters"),
    ("m" * 100_000, "m", "1 to 60 characters"),
    ("meter**1000000000", "m", "cannot read"),
    ("meter**99", "m", "cannot read"),
    ("m^2^9^9^9", "m", "cannot read"),
    ("m**2**9", "m", "cannot read"),
    ("10**10**10", "m", "cannot read"),
    ("1e9 m", "m", "cannot read"),
    ("m*9999999999", "m", "cannot read"),
    ("m.__class__", "m", "cannot read"),
    ("__import__('os')", "m", "cannot read"),
    ("(" * 50 + "m", "m", "cannot read"),
    ("m*m*m*m*m*m*m*m*m", "m", "cannot read"),
    ("m//s", "m", "cannot read"),
    ("/m", "m", "cannot read"),
    ("m/", "m", "cannot read"),
    ("[length]", "m", "cannot read"),
    ("m = 3", "m", "cannot read"),
    ("@alias", "m", "cannot read"),
    ("m\nkg", "m", "cannot convert"),
]


@each_row(("value", "source", "target", "answer"), CONVERSIONS)
def test_a_measure_is_converted(value: float, source: str, target: str, answer: float) -> None:
    number = convert(value, source, target).split(" = ")[1].split(" ")[0]
    assert math.isclose(float(number), answer, rel_tol=1e-11, abs_tol=1e-12)


@each_row(("source", "target", "words"), REFUSALS, ids=lambda text: text[:30])
def test_what_is_no_conversion_is_refused(source: str, target: str, words: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=words) as caught:
        convert(1, source, target)
    assert len(str(caught.value)) < 400
    assert time.process_time() - start < 2


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        convert(value, "m", "km")


def test_a_result_beyond_a_float_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        convert(1e308, "km", "nm")


def test_no_fuel_use_has_no_range() -> None:
    with pytest.raises(ValueError, match="too large"):
        convert(0, "mpg", "L/100km")


def test_a_temperature_below_absolute_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="below absolute zero"):
        convert(-300, "degC", "K")


def test_the_result_says_how_the_units_were_read() -> None:
    assert convert(1, "ton", "kg") == "1 ton = 907.18474 kilogram"
    assert convert(100, "C", "F") == "100 degree_Celsius = 212 degree_Fahrenheit"


@given(
    st.text(max_size=70)
    | st.lists(st.sampled_from(["m", "kg", "**", "^", "*", "/", "9", "-", "(", ")", " ", "²", "K"]))
    .map("".join)
    .filter(bool)
)
@example("¼")
@settings(max_examples=200, deadline=None)
def test_any_unit_text_gives_an_answer_or_a_value_error(unit: str) -> None:
    start = time.process_time()
    try:
        answer = convert(1, unit, "m")
    except ValueError as error:
        answer = str(error)
    assert answer
    assert time.process_time() - start < 2


def test_importing_the_tools_imports_no_heavy_package() -> None:
    program = (
        "import sys, importlib, agentcall_tools\n"
        "for place in (*agentcall_tools.TOOLS.values(), *agentcall_tools.KITS.values()):\n"
        "    importlib.import_module(place.partition(':')[0])\n"
        "heavy = {'pint', 'aiohttp', 'yarl', 'idna', 'httpx', 'psycopg', 'pydantic_monty'}\n"
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_tool_of_the_list_is_there_under_its_name() -> None:
    import importlib

    import agentcall_tools

    for name, place in agentcall_tools.TOOLS.items():
        module, attribute = place.split(":")
        found = getattr(importlib.import_module(module), attribute)
        assert found.definition["function"]["name"] == name


def test_the_tool_takes_two_units_and_a_number() -> None:
    parameters = convert_units.definition["function"]["parameters"]
    assert parameters["required"] == ["value", "from_unit", "to_unit"]
    assert convert_units(5, "km", "m") == "5 kilometer = 5000 meter"
