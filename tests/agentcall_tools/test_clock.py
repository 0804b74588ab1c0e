"""The clock: time zones by many names, conversions and calendar arithmetic."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from rows import each_row

from agentcall_tools import clock
from agentcall_tools.timezones import find_zone


@each_row(
    ("name", "zone"),
    [
        ("UTC", "UTC"),
        ("Asia/Shanghai", "Asia/Shanghai"),
        ("asia/shanghai", "Asia/Shanghai"),
        ("上海", "Asia/Shanghai"),
        ("北京", "Asia/Shanghai"),
        ("北京时间", "Asia/Shanghai"),
        ("上海市", "Asia/Shanghai"),
        ("Beijing time", "Asia/Shanghai"),
        ("New York", "America/New_York"),
        ("new_york", "America/New_York"),
        ("Washington, D.C.", None),
        ("纽约", "America/New_York"),
        ("San Francisco", "America/Los_Angeles"),
        ("Mumbai", "Asia/Kolkata"),
        ("Xi'an", "Asia/Shanghai"),
        ("PST", "America/Los_Angeles"),
        ("GMT", "UTC"),
        ("Z", "UTC"),
        ("UTC+8", "UTC+08:00"),
        ("UTC+5:30", "UTC+05:30"),
        ("GMT-3", "UTC-03:00"),
        ("+09:00", "UTC+09:00"),
        ("UTC−5", "UTC-05:00"),
    ],
)
def test_a_zone_goes_by_many_names(name: str, zone: str | None) -> None:
    if zone is None:
        with pytest.raises(ValueError, match="close matches"):
            find_zone(name)
    else:
        assert find_zone(name)[0] == zone


def test_every_city_of_the_table_is_a_real_zone() -> None:
    from agentcall_tools.timezones import _load_zones

    for name in _load_zones():
        assert datetime.now(find_zone(name)[1]).tzinfo is not None


@each_row(
    ("name", "words"),
    [
        ("Shanghia", "close matches: Asia/Shanghai"),
        ("CST", r"Asia/Shanghai \(China\) or America/Chicago"),
        ("../etc/passwd", "unknown time zone"),
        ("/etc/localtime", "unknown time zone"),
        ("America", "unknown time zone"),
        ("", "unknown time zone"),
        ("UTC+25", "UTC-12:00 to UTC"),
        ("x" * 100_000, "unknown time zone"),
    ],
)
def test_an_unknown_zone_is_refused_with_what_to_write(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        find_zone(name)
    assert len(str(caught.value)) < 400


def test_now_is_the_time_in_that_zone() -> None:
    text = clock.now("UTC+8")
    found = re.fullmatch(
        r"(\d\d:\d\d:\d\d) on (\w+day) (\d{4}-\d\d-\d\d) in UTC\+08:00 \(UTC\+08:00\)", text
    )
    assert found
    shown = datetime.fromisoformat(f"{found[3]}T{found[1]}+08:00")
    assert abs(datetime.now(timezone.utc) - shown) < timedelta(seconds=5)
    assert shown.strftime("%A") == found[2]


@each_row(
    ("time", "source", "target", "answer"),
    [
        ("2025-03-01 14:30", "Tokyo", "Paris", "06:30:00 on Saturday 2025-03-01 in Europe/Paris"),
        ("2025-07-01 14:30", "Tokyo", "Paris", "07:30:00 on Tuesday 2025-07-01 in Europe/Paris"),
        ("2025-03-01T14:30:00Z", "Berlin", "Tokyo", "23:30:00 on Saturday 2025-03-01 in Asia"),
        ("2025-03-01T14:30:00.123+01:00", "UTC", "Tokyo", "22:30:00 on Saturday 2025-03-01"),
        ("2025年3月1日 14:30", "上海", "UTC", "06:30:00 on Saturday 2025-03-01 in UTC"),
        ("2025/3/1 9:30 pm", "上海", "New York", "08:30:00 on Saturday 2025-03-01"),
        ("2025-03-01 12:00 am", "UTC", "UTC", "00:00:00 on Saturday 2025-03-01"),
        ("2025-12-31 20:00", "New York", "上海", "09:00:00 on Thursday 2026-01-01"),
        ("2025-10-26 02:30", "Berlin", "UTC", "comes twice that day"),
    ],
)
def test_a_time_is_converted(time: str, source: str, target: str, answer: str) -> None:
    assert answer in clock.convert_time(time, source, target)


def test_a_bare_time_is_of_today() -> None:
    today = datetime.now(timezone.utc).date().isoformat()
    assert f"{today} in UTC" in clock.convert_time("14:30", "UTC", "UTC")


@each_row(
    ("time", "words"),
    [
        ("2025-03-30 02:30", "does not exist in Europe/Berlin"),
        ("25:00", "hour must be in"),
        ("13:00 pm", "1 to 12"),
        ("2023-02-29", "2023-02-29"),
        ("hello", "write 2025-03-01"),
        ("", "write 2025-03-01"),
        ("2025-03-01 and then", "write 2025-03-01"),
        ("9" * 5000, "5000 characters"),
        ("0001-01-01 00:00", "years 1 to 9999"),
    ],
)
def test_a_time_that_is_none_is_refused(time: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clock.convert_time(time, "Europe/Berlin", "UTC")


@each_row(
    ("start", "end", "zone", "answer"),
    [
        ("2024-02-28", "2024-03-01", "UTC", "2 days 0 hours 0 minutes 0 seconds (172800 seconds"),
        ("2025-03-29 12:00", "2025-03-30 12:00", "Berlin", "0 days 23 hours"),
        ("2025-03-01 10:00", "2025-03-01 12:45:30", "UTC", "0 days 2 hours 45 minutes 30 seconds"),
        ("2024-03-01", "2020-02-29", "UTC", "-1462 calendar days, minus 4 years 0 months 1 days"),
        ("1990-05-20", "2025-05-19", "UTC", "34 years 11 months 29 days"),
        ("2025-03-01T12:00Z", "2025-03-01T12:00+02:00", "UTC", "-0 days 2 hours"),
        ("today", "tomorrow", "Tokyo", "1 calendar days"),
        ("now", "now", "UTC", "calendar days, 0 years 0 months 0 days"),
    ],
)
def test_a_difference_counts_real_time_and_calendar(
    start: str, end: str, zone: str, answer: str
) -> None:
    assert answer in clock.time_difference(start, end, zone)


@each_row(
    ("date", "days", "months", "answer"),
    [
        ("2024-12-30", 0, 0, "2024-12-30 is a Monday, ISO week 2025-W01, day 365 of 366 in 2024"),
        ("2024-01-31", 0, 1, "2024-02-29 is a Thursday"),
        ("2025-03-31", -1, -1, "2025-02-27 is a Thursday"),
        ("2025-01-01", 100, 0, "2025-04-11 is a Friday"),
        ("2000-01-01", 0, 1200, "2100-01-01 is a Friday"),
    ],
)
def test_a_day_has_its_weekday_after_adding(date: str, days: int, months: int, answer: str) -> None:
    assert answer in clock.calendar_day(date, days, months)


@pytest.mark.parametrize("days", [10, 10**9, 10**30, -(10**7)])
def test_a_day_outside_the_calendar_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match="9999"):
        clock.calendar_day("9999-12-31", days)


def test_the_tools_are_named_and_run() -> None:
    assert clock.current_time_tool.definition["function"]["name"] == "current_time"
    assert "in Asia/Tokyo" in clock.current_time_tool("Tokyo")
    assert "is a Saturday" in clock.calendar_day_tool("2025-03-01")
    assert clock.convert_time_tool.definition["function"]["name"] == "convert_time"
    assert clock.time_difference_tool.definition["function"]["name"] == "time_difference"
