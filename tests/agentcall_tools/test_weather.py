"""Weather, against an HTTP server on loopback that answers in Open-Meteo's shapes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from agentcall_tools import weather as module
from agentcall_tools.weather import WeatherError, weather
from agentcall_tools.weather import forecast as get_weather

PLACES = {
    "Paris": [
        {"id": 1, "name": "Paris", "latitude": 48.85341, "longitude": 2.3488, "elevation": 42.0,
         "country_code": "FR", "timezone": "Europe/Paris", "population": 2138551,
         "country": "France", "admin1": "Île-de-France"},
        {"id": 2, "name": "Paris", "latitude": 33.66094, "longitude": -95.55551,
         "country_code": "US", "country": "United States", "admin1": "Texas"},
    ],
    "上海": [
        {"id": 3, "name": "上海", "latitude": 31.22222, "longitude": 121.45806,
         "country_code": "CN", "country": "中国", "admin1": "上海"},
    ],
    "Lond": [
        {"id": 4, "name": "London", "latitude": 51.5, "longitude": -0.12,
         "country_code": "GB", "country": "United Kingdom", "admin1": "England"},
    ],
}  # fmt: skip
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OpenMeteo:
    """The two APIs on one port; `forecast` may be replaced by one that misbehaves."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.forecast: Handler = self.good_forecast

    async def search(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        found = PLACES.get(request.query["name"])
        answer = {"generationtime_ms": 0.5} | ({"results": found} if found else {})
        return web.json_response(answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        return await self.forecast(request)

    async def good_forecast(self, request: web.Request) -> web.StreamResponse:
        days = int(request.query["forecast_days"])
        current = {"time": "2025-03-01T10:45", "interval": 900}
        for name in request.query["current"].split(","):
            current[name] = {"weather_code": 61, "wind_direction_10m": 45}.get(name, 12.5)
        daily = {"time": [f"2025-03-{day + 1:02}" for day in range(days)]}
        for name in request.query["daily"].split(","):
            daily[name] = [95 if name == "weather_code" else 7.5] * days
        body = {
            "latitude": 48.86, "longitude": 2.34, "utc_offset_seconds": 3600,
            "timezone": "Europe/Paris", "current": current, "daily": daily,
        }  # fmt: skip
        return web.json_response(body)


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenMeteo]:
    fake = OpenMeteo()
    app = web.Application()
    app.router.add_get("/v1/search", fake.search)
    app.router.add_get("/v1/forecast", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    monkeypatch.setenv("AGENTCALL_WEATHER_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AGENTCALL_GEOCODING_URL", f"http://{host}:{port}/")
    yield fake
    await runner.cleanup()


async def test_the_weather_of_a_city_is_compact_text(service: OpenMeteo) -> None:
    assert await get_weather("Paris", days=2) == (
        "Paris, Île-de-France, France (48.85, 2.35), local time 2025-03-01T10:45 Europe/Paris\n"
        "now: light rain, 12.5°C, feels like 12.5°C, humidity 12.5%, wind 12.5 km/h from NE, "
        "precipitation 12.5 mm\n"
        "2025-03-01: thunderstorm, 7.5 to 7.5°C, precipitation 7.5 mm (7.5%), "
        "wind up to 7.5 km/h\n"
        "2025-03-02: thunderstorm, 7.5 to 7.5°C, precipitation 7.5 mm (7.5%), "
        "wind up to 7.5 km/h\n"
        "also found: Paris, Texas, United States"
    )
    assert service.queries[1]["latitude"] == "48.85341"


async def test_a_chinese_city_is_searched_in_chinese(service: OpenMeteo) -> None:
    assert (await get_weather("上海", "中国")).startswith("上海, 中国 (31.22, 121.46)")
    assert service.queries[0]["language"] == "zh"


@pytest.mark.parametrize(
    ("city", "country"),
    [("Paris", "US"), ("Paris", "usa"), ("Paris", "united states"), ("Paris, Texas", "")],
)
async def test_a_country_or_region_decides_between_cities(
    service: OpenMeteo, city: str, country: str
) -> None:
    assert (await get_weather(city, country)).startswith("Paris, Texas, United States")


async def test_imperial_units_are_asked_for_and_shown(service: OpenMeteo) -> None:
    assert "12.5°F, feels like 12.5°F" in await get_weather("Paris", units="imperial")
    assert service.queries[1]["wind_speed_unit"] == "mph"


async def test_an_unknown_city_gets_similar_names(service: OpenMeteo) -> None:
    with pytest.raises(WeatherError, match="unknown city 'Londno'; similar names: London, Eng"):
        await get_weather("Londno")


async def test_a_city_without_similar_names_is_told_to_be_checked(service: OpenMeteo) -> None:
    with pytest.raises(WeatherError, match="unknown city 'Qqqq'; check the spelling"):
        await get_weather("Qqqq")


async def test_a_city_that_is_not_in_the_country_names_where_it_is(service: OpenMeteo) -> None:
    with pytest.raises(WeatherError, match=r"in 'Japan'; found: Paris.*France; Paris, Texas"):
        await get_weather("Paris", "Japan")


@pytest.mark.parametrize(("city", "days"), [("Paris", 0), ("Paris", 17), ("", 1), ("x" * 200, 1)])
async def test_arguments_out_of_bounds_are_refused_before_a_request(
    service: OpenMeteo, city: str, days: int
) -> None:
    with pytest.raises(WeatherError, match="1 to"):
        await get_weather(city, days=days)
    assert service.queries == []


async def rate_limited(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": True, "reason": "Minutely limit"}, status=429)


async def broken(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="<html>oops</html>")


async def bad_request(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": True, "reason": "Latitude out of range"}, status=400)


async def garbage(request: web.Request) -> web.StreamResponse:
    return web.Response(text="not json at all")


async def empty_object(request: web.Request) -> web.StreamResponse:
    return web.json_response({})


async def huge(request: web.Request) -> web.StreamResponse:
    return web.Response(text="[" + "1," * 1_000_000)


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://127.0.0.1:1/")


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (rate_limited, "429.*wait a minute"),
        (broken, "HTTP 500; try again later"),
        (bad_request, "HTTP 400: Latitude out of range; check the arguments"),
        (garbage, "without weather data"),
        (empty_object, "without weather data"),
        (huge, "over 1000000 bytes"),
        (redirect, "HTTP 302"),
        (reset, "closed the connection"),
    ],
)
async def test_each_failure_of_the_service_has_its_words(
    service: OpenMeteo, handler: Handler, words: str
) -> None:
    service.forecast = handler
    with pytest.raises(WeatherError, match=words):
        await get_weather("Paris")


async def test_values_that_are_missing_are_unknown_not_made_up(service: OpenMeteo) -> None:
    async def holes(request: web.Request) -> web.StreamResponse:
        good = await service.good_forecast(request)
        body = json.loads(good.text)  # type: ignore[attr-defined]
        body["current"]["temperature_2m"] = None
        body["current"]["weather_code"] = 42
        body["daily"]["precipitation_probability_max"] = [None]
        return web.json_response(body)

    service.forecast = holes
    text = await get_weather("Paris")
    assert "now: weather code 42, unknown, feels" in text
    assert "precipitation 7.5 mm (unknown)" in text


async def test_a_slow_service_is_given_up(service: OpenMeteo) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    service.forecast = drip
    found = module.WeatherService.from_environment()
    quick = module.WeatherService(found.forecast_url, found.geocoding_url, seconds=0.3)
    with pytest.raises(WeatherError, match=r"within 0\.3 seconds"):
        await quick.forecast("Paris", "", 1, "metric")


async def test_without_a_network_the_words_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_GEOCODING_URL", "http://127.0.0.1:9")
    with pytest.raises(WeatherError, match=r"http://127\.0\.0\.1:9.*could not reach.*no network\?"):
        await get_weather("Paris")


async def test_a_wrong_base_url_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCALL_GEOCODING_URL", "not a url")
    with pytest.raises(WeatherError, match="not a url"):
        await get_weather("Paris")


async def test_the_public_service_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTCALL_WEATHER_URL", raising=False)
    monkeypatch.delenv("AGENTCALL_GEOCODING_URL", raising=False)
    assert module.WeatherService.from_environment() == module.WeatherService()
    assert module.WeatherService().forecast_url == "https://api.open-meteo.com"


async def test_the_tool_offers_city_country_days_and_units(service: OpenMeteo) -> None:
    parameters = weather.definition["function"]["parameters"]
    assert list(parameters["properties"]) == ["city", "country", "days", "units"]
    assert (await weather("Paris")).startswith("Paris, Île-de-France, France")
