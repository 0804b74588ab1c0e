"""Current weather and forecasts from Open-Meteo: https://open-meteo.com/en/docs."""

import asyncio
import os
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from agentcall import tool
from agentcall_tools.http_download import DownloadLimits, HTTPDownloadError, download

FORECAST_URL = "https://api.open-meteo.com"
GEOCODING_URL = "https://geocoding-api.open-meteo.com"
MAX_DAYS = 16
MAX_BYTES = 1_000_000
SECONDS = 15.0
_MAX_CITY_LENGTH = 100

_CURRENT = (
    "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,"
    "wind_speed_10m,wind_direction_10m"
)
_DAILY = (
    "weather_code,temperature_2m_max,temperature_2m_min,precipitation_sum,"
    "precipitation_probability_max,wind_speed_10m_max"
)
_IMPERIAL = {
    "temperature_unit": "fahrenheit",
    "wind_speed_unit": "mph",
    "precipitation_unit": "inch",
}
_SKIES = {
    0: "clear sky", 1: "mainly clear", 2: "partly cloudy", 3: "overcast", 45: "fog",
    48: "freezing fog", 51: "light drizzle", 53: "drizzle", 55: "dense drizzle",
    56: "light freezing drizzle", 57: "freezing drizzle", 61: "light rain", 63: "rain",
    65: "heavy rain", 66: "light freezing rain", 67: "heavy freezing rain", 71: "light snow",
    73: "snow", 75: "heavy snow", 77: "snow grains", 80: "light rain showers",
    81: "rain showers", 82: "violent rain showers", 85: "light snow showers",
    86: "heavy snow showers", 95: "thunderstorm", 96: "thunderstorm with light hail",
    99: "thunderstorm with heavy hail",
}  # fmt: skip
_WINDS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


class WeatherError(ValueError):
    """The weather cannot be read; the message says why and what to try."""


@dataclass(frozen=True, slots=True)
class WeatherService:
    """The addresses of Open-Meteo's two APIs, and the time limit of a report in seconds."""

    forecast_url: str = FORECAST_URL
    geocoding_url: str = GEOCODING_URL
    seconds: float = SECONDS

    @classmethod
    def from_environment(cls) -> "WeatherService":
        """Return the public service, or that of AGENTCALL_WEATHER_URL and _GEOCODING_URL."""
        return cls(
            os.environ.get("AGENTCALL_WEATHER_URL", FORECAST_URL).rstrip("/"),
            os.environ.get("AGENTCALL_GEOCODING_URL", GEOCODING_URL).rstrip("/"),
        )

    async def forecast(self, city: str, country: str, days: int, units: str) -> str:
        """Return the weather as text. Raise WeatherError if it cannot be read in time."""
        if not 1 <= days <= MAX_DAYS:
            raise WeatherError(f"days is 1 to {MAX_DAYS}, got {days}")
        name, _, region = city.strip().partition(",")
        if not name or len(city) > _MAX_CITY_LENGTH:
            raise WeatherError(
                f"city is a name of 1 to {_MAX_CITY_LENGTH} characters, got {len(city)}"
            )
        report = _write_report(self, name.strip(), country.strip() or region.strip(), days, units)
        try:
            return await asyncio.wait_for(report, self.seconds)
        except asyncio.TimeoutError:
            raise WeatherError(
                f"the weather service did not answer within {self.seconds:g} seconds; "
                "try again later"
            ) from None


class WeatherPlace(BaseModel):
    """A place in the geocoding API's response."""

    name: str
    latitude: float
    longitude: float
    country: str = ""
    country_code: str = ""
    admin1: str = ""

    @property
    def title(self) -> str:
        """The place with its region and country."""
        region = self.admin1 if self.admin1 != self.name else ""
        return ", ".join(part[:60] for part in (self.name, region, self.country) if part)


class WeatherPlaces(BaseModel):
    """The geocoding API's response, which omits `results` if there are none."""

    results: list[WeatherPlace] = []


class CurrentWeather(BaseModel):
    """The current weather; a missing value is None."""

    time: str
    temperature_2m: float | None = None
    apparent_temperature: float | None = None
    relative_humidity_2m: float | None = None
    precipitation: float | None = None
    weather_code: int | None = None
    wind_speed_10m: float | None = None
    wind_direction_10m: float | None = None


class DailyWeather(BaseModel):
    """The forecast: a list for each measure, with one value for each day."""

    time: list[str]
    weather_code: list[int | None]
    temperature_2m_max: list[float | None]
    temperature_2m_min: list[float | None]
    precipitation_sum: list[float | None]
    precipitation_probability_max: list[float | None]
    wind_speed_10m_max: list[float | None]


class WeatherForecast(BaseModel):
    """The forecast API's response."""

    timezone: str = ""
    current: CurrentWeather
    daily: DailyWeather


BodyT = TypeVar("BodyT", bound=BaseModel)


async def forecast(
    city: str,
    country: str = "",
    days: int = 1,
    units: Literal["metric", "imperial"] = "metric",
) -> str:
    """Returns the weather now and the forecast for a city.

    Args:
        city: The city's name in any language, for example "Paris" or "上海".
        country: Country or region, if the name is not unique: "US", "France", "Texas".
        days: How many days of forecast, 1 (today) to 16.
        units: metric (°C, km/h, mm) or imperial (°F, mph, inch).
    """
    return await WeatherService.from_environment().forecast(city, country, days, units)


async def _write_report(
    service: WeatherService, name: str, region: str, days: int, units: str
) -> str:
    place, others = await _find_place(service, name, region)
    query = {
        "latitude": str(place.latitude),
        "longitude": str(place.longitude),
        "current": _CURRENT,
        "daily": _DAILY,
        "timezone": "auto",
        "forecast_days": str(days),
        **(_IMPERIAL if units == "imperial" else {}),
    }
    forecast = await _get_json(f"{service.forecast_url}/v1/forecast", query, WeatherForecast)
    return _format_report(place, others, forecast, units)


async def _find_place(
    service: WeatherService, name: str, region: str
) -> tuple[WeatherPlace, list[WeatherPlace]]:
    """Return the best match, and other places with the same name."""
    places = await _search_places(service, name)
    if not places:
        raise WeatherError(await _describe_unknown_place(service, name))
    matches = [place for place in places if _is_in(place, region)]
    if not matches:
        known = "; ".join(place.title for place in places[:5])
        raise WeatherError(f"no {name!r} found in {region[:60]!r}; found: {known}")
    same = [place for place in matches[1:] if place.name == matches[0].name]
    return matches[0], same[:3]


def _is_in(place: WeatherPlace, region: str) -> bool:
    query = region.casefold()
    if query in ("", place.country_code.casefold()):
        return True
    names = (place.country.casefold(), place.admin1.casefold())
    short = {"usa": "US", "uk": "GB", "england": "GB", "america": "US", "uae": "AE"}
    return any(query in part for part in names) or short.get(query) == place.country_code


async def _search_places(service: WeatherService, name: str) -> list[WeatherPlace]:
    # Names come back in this language, so a region in Chinese is compared with Chinese names.
    language = "zh" if any("\u4e00" <= character <= "\u9fff" for character in name) else "en"
    query = {"name": name, "count": "10", "language": language, "format": "json"}
    places = await _get_json(f"{service.geocoding_url}/v1/search", query, WeatherPlaces)
    return places.results


async def _describe_unknown_place(service: WeatherService, name: str) -> str:
    shorter = name[: max(2, len(name) * 2 // 3)]
    near = await _search_places(service, shorter) if shorter != name else []
    titles = "; ".join(place.title for place in near[:5])
    hint = f"; similar names: {titles}" if titles else "; check the spelling or name a larger city"
    return f"unknown city {name!r}{hint}"


async def _get_json(url: str, query: dict[str, str], body: type[BodyT]) -> BodyT:
    """Return the parsed response to one GET. Raise WeatherError for any failure."""
    try:
        answer = await download(url, DownloadLimits(SECONDS, MAX_BYTES), query=query)
    except HTTPDownloadError as error:
        raise WeatherError(f"{url}: {error}; no network?") from None
    if not answer.is_complete:
        raise WeatherError(f"{url} sent over {MAX_BYTES} bytes; not read")
    if answer.status != 200:
        raise WeatherError(_describe_refusal(url, answer.status, answer.body))
    try:
        return body.model_validate_json(answer.body)
    except ValidationError:
        raise WeatherError(f"{url} responded without weather data; try later") from None


class _WeatherRefusal(BaseModel):
    reason: str = ""


def _describe_refusal(url: str, status: int, text: bytes) -> str:
    if status == 429:
        return f"{url} allows no more requests now (HTTP 429); wait a minute and try again"
    try:
        reason = _WeatherRefusal.model_validate_json(text).reason[:200]
    except ValidationError:
        reason = ""
    advice = "try again later" if status >= 500 else "check the arguments"
    return f"{url} answered HTTP {status}{f': {reason}' if reason else ''}; {advice}"


def _format_report(
    place: WeatherPlace, others: list[WeatherPlace], forecast: WeatherForecast, units: str
) -> str:
    degree, speed, depth = (
        ("°F", " mph", " inch") if units == "imperial" else ("°C", " km/h", " mm")
    )
    now, daily = forecast.current, forecast.daily
    parts = [
        _format_sky(now.weather_code),
        _format_number(now.temperature_2m, degree),
        f"feels like {_format_number(now.apparent_temperature, degree)}",
        f"humidity {_format_number(now.relative_humidity_2m, '%')}",
        f"wind {_format_number(now.wind_speed_10m, speed)}{_format_wind(now.wind_direction_10m)}",
        f"precipitation {_format_number(now.precipitation, depth)}",
    ]
    where = f"{place.title} ({place.latitude:.2f}, {place.longitude:.2f})"
    lines = [
        f"{where}, local time {now.time[:16]} {forecast.timezone[:40]}",
        f"now: {', '.join(parts)}",
        *(_format_day(daily, index, degree, speed, depth) for index in range(_count_rows(daily))),
    ]
    if others:
        lines.append("also found: " + "; ".join(other.title for other in others))
    return "\n".join(lines)


def _count_rows(daily: DailyWeather) -> int:
    columns = (
        daily.time, daily.weather_code, daily.temperature_2m_max, daily.temperature_2m_min,
        daily.precipitation_sum, daily.precipitation_probability_max, daily.wind_speed_10m_max,
    )  # fmt: skip
    return min(MAX_DAYS, *(len(column) for column in columns))


def _format_day(daily: DailyWeather, index: int, degree: str, speed: str, depth: str) -> str:
    low, high = daily.temperature_2m_min[index], daily.temperature_2m_max[index]
    return (
        f"{daily.time[index][:10]}: {_format_sky(daily.weather_code[index])}, "
        f"{_format_number(low, '')} to {_format_number(high, degree)}, "
        f"precipitation {_format_number(daily.precipitation_sum[index], depth)} "
        f"({_format_number(daily.precipitation_probability_max[index], '%')}), "
        f"wind up to {_format_number(daily.wind_speed_10m_max[index], speed)}"
    )


def _format_sky(code: int | None) -> str:
    return "sky unknown" if code is None else _SKIES.get(code, f"weather code {code}")


def _format_wind(direction: float | None) -> str:
    return "" if direction is None else f" from {_WINDS[round(direction / 45) % 8]}"


def _format_number(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:g}{unit}"


# Not untrusted: it returns numbers, and names of places of at most 60 characters each.
weather = tool(name="weather", idempotent=True, read_only=True, timeout=30)(forecast)
