"""The current time in any time zone, and arithmetic with dates and times."""

import calendar
import re
from datetime import date, datetime, timedelta, timezone, tzinfo

from agentcall import tool
from agentcall_tools.timezones import find_zone

_CLOCK_PATTERN = re.compile(
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?: *([ap])\.?m\.?)?", re.IGNORECASE
)
_DAY_PATTERN = re.compile(r"([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?")
_OFFSET_PATTERN = re.compile(r"(?:\.[0-9]+)?(?:[zZ]|[+-][0-9]{2}:?[0-9]{2})?")
_MAX_TIME_LENGTH = 64
_MAX_DAYS = 3_700_000


def now(timezone: str = "UTC") -> str:
    """Returns the current date, time and weekday in a time zone.

    Args:
        timezone: IANA name ("Asia/Shanghai"), large city ("Tokyo", "上海") or "UTC+8".
    """
    name, zone = find_zone(timezone)
    return _format_moment(datetime.now(zone), name)


def convert_time(time: str, from_timezone: str, to_timezone: str) -> str:
    """Converts a time of one time zone to another.

    Args:
        time: "2025-03-01 14:30", or "14:30" for today, or "now".
        from_timezone: Where the time is given: IANA name, large city or "UTC+8".
        to_timezone: Where the time is wanted.
    """
    source, source_zone = find_zone(from_timezone)
    target, target_zone = find_zone(to_timezone)
    moment, note = _parse_moment(time, source_zone)
    converted = _convert_to_zone(moment, target_zone)
    return f"{_format_moment(moment, source)} = {_format_moment(converted, target)}{note}"


def time_difference(start: str, end: str, timezone: str = "UTC") -> str:
    """Returns how long it is from one date or time to another.

    Args:
        start: "2025-03-01", "2025-03-01 14:30", "14:30" (today), "today" or "now".
        end: The same forms; an earlier end gives a negative difference.
        timezone: The zone of both, where they name no offset.
    """
    _, zone = find_zone(timezone)
    first, note = _parse_moment(start, zone)
    last, other_note = _parse_moment(end, zone)
    seconds = int((last - first).total_seconds())
    if first.tzinfo is last.tzinfo is zone:
        seconds = int(
            (_convert_to_zone(last, _UTC) - _convert_to_zone(first, _UTC)).total_seconds()
        )
    sign = "-" if seconds < 0 else ""
    days, rest = divmod(abs(seconds), 86_400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    length = f"{sign}{days} days {hours} hours {minutes} minutes {rest % 60} seconds"
    calendar_days = (last.date() - first.date()).days
    return (
        f"{length} ({seconds} seconds in all); {calendar_days} calendar days, "
        f"{_format_calendar_span(first.date(), last.date())}{note}{other_note}"
    )


def calendar_day(
    date: str = "today", add_days: int = 0, add_months: int = 0, timezone: str = "UTC"
) -> str:
    """Returns a date's weekday, ISO week and day of the year, after adding days or months.

    Args:
        date: "2025-03-01" or "today".
        add_days: Days to add; negative to go back.
        add_months: Months to add first (12 for a year); the day is kept or becomes the last one.
        timezone: The zone that decides what "today" is.
    """
    _, zone = find_zone(timezone)
    moment, _ = _parse_moment(date, zone)
    if abs(add_days) > _MAX_DAYS or abs(add_months) > _MAX_DAYS // 30:
        raise ValueError(f"add at most {_MAX_DAYS} days; the calendar has the years 1 to 9999")
    try:
        day = _add_months(moment.date(), add_months) + timedelta(days=add_days)
    except (OverflowError, ValueError):
        raise ValueError("the date is outside the years 1 to 9999") from None
    length = calendar.monthrange(day.year, day.month)[1]
    week = day.isocalendar()
    return (
        f"{day.isoformat()} is a {_format_weekday(day)}, ISO week {week[0]}-W{week[1]:02}, "
        f"day {day.timetuple().tm_yday} of {365 + calendar.isleap(day.year)} in {day.year}; "
        f"the month has {length} days"
    )


_UTC = timezone.utc
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _format_weekday(day: date) -> str:
    return _WEEKDAYS[day.weekday()]


def _format_moment(moment: datetime, zone: str) -> str:
    offset = moment.isoformat(timespec="seconds")[19:] or "+00:00"
    day = f"{_format_weekday(moment)} {moment.date().isoformat()}"
    return f"{moment:%H:%M:%S} on {day} in {zone} (UTC{offset})"


def _convert_to_zone(moment: datetime, zone: tzinfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError):
        raise ValueError("the time is outside the years 1 to 9999") from None


def _parse_moment(text: str, zone: tzinfo) -> tuple[datetime, str]:
    """Return the time in this zone, and a note if the local time occurs twice."""
    words = text.strip().lower()
    today = datetime.now(zone)
    if words in ("now", "现在"):
        return today.replace(microsecond=0), ""
    names = {"today": 0, "今天": 0, "tomorrow": 1, "明天": 1, "yesterday": -1, "昨天": -1}
    if words in names:
        midnight = datetime(today.year, today.month, today.day, tzinfo=zone)
        return midnight + timedelta(days=names[words]), ""
    moment = _parse_datetime(text, today)
    if moment.tzinfo is not None:
        return _convert_to_zone(moment, zone), ""
    return _localize(moment, zone)


def _parse_datetime(text: str, today: datetime) -> datetime:
    """Parse a date and time, which has a zone only if the text has an offset."""
    words = text.strip()
    if len(words) > _MAX_TIME_LENGTH:
        raise ValueError(f"a time of {len(words)} characters cannot be read")
    day = _DAY_PATTERN.match(words)
    rest = words[day.end() :].lstrip(" Tt,") if day else words
    clock = _CLOCK_PATTERN.match(rest)
    ending = rest[clock.end() :].strip() if clock else rest
    if (not day and not clock) or not _OFFSET_PATTERN.fullmatch(ending) or (ending and not clock):
        raise ValueError(
            f"cannot read {words!r} as a time: write 2025-03-01, 2025-03-01 14:30, "
            "14:30, today or now"
        )
    parts = map(int, day.groups()) if day else (today.year, today.month, today.day)
    year, month, number = parts
    try:
        moment = datetime(year, month, number, *_parse_clock(clock))  # noqa: DTZ001  the caller adds the zone
    except ValueError as error:
        raise ValueError(f"{words!r} is not a date and time: {error}") from None
    return moment.replace(tzinfo=_parse_offset(ending))


def _parse_clock(clock: re.Match[str] | None) -> tuple[int, int, int]:
    if clock is None:
        return 0, 0, 0
    hour, minute, second = (int(clock.group(index) or 0) for index in (1, 2, 3))
    half = (clock.group(4) or "").lower()
    if half and not 1 <= hour <= 12:
        raise ValueError("with am or pm the hour is 1 to 12")
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour, minute, second


def _parse_offset(ending: str) -> tzinfo | None:
    text = re.sub(r"^\.[0-9]+", "", ending)
    if not text:
        return None
    return _UTC if text in "zZ" else find_zone(text)[1]


def _localize(moment: datetime, zone: tzinfo) -> tuple[datetime, str]:
    """Add the zone to a local time; refuse one that the clocks skip, note one that occurs twice."""
    local = moment.replace(tzinfo=zone)
    later = local.replace(fold=1)
    if local.utcoffset() == later.utcoffset():
        return local, ""
    if _convert_to_zone(_convert_to_zone(local, _UTC), zone).replace(tzinfo=None) != moment:
        raise ValueError(
            f"{moment:%Y-%m-%d %H:%M} does not exist in {zone}: the clocks go forward over it"
        )
    return local, "; this local time comes twice that day, the first is taken"


def _add_months(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 + months
    year, month = index // 12, index % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _format_calendar_span(first: date, last: date) -> str:
    """Format the difference as years, months and days of the calendar."""
    if last < first:
        return f"minus {_format_calendar_span(last, first)}"
    months = (last.year - first.year) * 12 + last.month - first.month
    if _add_months(first, months) > last:
        months -= 1
    days = (last - _add_months(first, months)).days
    return f"{months // 12} years {months % 12} months {days} days"


current_time_tool = tool(
    name="current_time", idempotent=True, polling=True, read_only=True, timeout=5
)(now)
convert_time_tool = tool(name="convert_time", idempotent=True, read_only=True, timeout=5)(
    convert_time
)
time_difference_tool = tool(name="time_difference", idempotent=True, read_only=True, timeout=5)(
    time_difference
)
calendar_day_tool = tool(name="calendar_day", idempotent=True, read_only=True, timeout=5)(
    calendar_day
)
