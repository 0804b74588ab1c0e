"""Time zones by IANA name, UTC offset or the name of a large city, in English or Chinese."""

import difflib
import re
from datetime import timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_CITIES = """
Asia/Shanghai: beijing 北京 shanghai 上海 guangzhou 广州 shenzhen 深圳 chengdu 成都 hangzhou 杭州
    wuhan 武汉 nanjing 南京 chongqing 重庆 tianjin 天津 xian 西安 suzhou 苏州 china 中国
Asia/Hong_Kong: 香港 hongkong
Asia/Macau: 澳门 macao
Asia/Taipei: 台北 taiwan
Asia/Urumqi: 乌鲁木齐
Asia/Tokyo: 东京 osaka 大阪 kyoto 京都 japan 日本
Asia/Seoul: 首尔 busan korea 韩国
Asia/Singapore: 新加坡
Asia/Kuala_Lumpur: 吉隆坡 malaysia
Asia/Bangkok: 曼谷 thailand 泰国
Asia/Ho_Chi_Minh: 胡志明市 hanoi 河内 saigon vietnam 越南
Asia/Jakarta: 雅加达
Asia/Manila: 马尼拉 philippines
Asia/Kolkata: india 印度 mumbai 孟买 delhi 德里 new_delhi 新德里 bangalore bengaluru chennai
Asia/Karachi: 卡拉奇 pakistan islamabad lahore
Asia/Dhaka: 达卡 bangladesh
Asia/Dubai: 迪拜 abu_dhabi
Asia/Riyadh: 利雅得
Asia/Tehran: 德黑兰 iran
Asia/Jerusalem: 耶路撒冷 tel_aviv israel
Europe/Istanbul: 伊斯坦布尔 ankara turkey
Europe/Moscow: 莫斯科 st_petersburg saint_petersburg
Europe/Kiev: kyiv 基辅
Europe/London: 伦敦 uk england manchester edinburgh britain 英国
Europe/Dublin: 都柏林 ireland
Europe/Paris: 巴黎 france 法国 lyon marseille
Europe/Berlin: 柏林 germany 德国 munich 慕尼黑 frankfurt 法兰克福 hamburg cologne
Europe/Madrid: 马德里 barcelona 巴塞罗那 spain 西班牙
Europe/Rome: 罗马 milan 米兰 italy 意大利
Europe/Amsterdam: 阿姆斯特丹 netherlands
Europe/Brussels: 布鲁塞尔
Europe/Vienna: 维也纳
Europe/Zurich: 苏黎世 geneva 日内瓦 switzerland
Europe/Stockholm: 斯德哥尔摩
Europe/Oslo: 奥斯陆
Europe/Copenhagen: 哥本哈根
Europe/Helsinki: 赫尔辛基
Europe/Warsaw: 华沙
Europe/Prague: 布拉格
Europe/Athens: 雅典
Europe/Lisbon: 里斯本
Africa/Cairo: 开罗 egypt
Africa/Lagos: 拉各斯 nigeria
Africa/Nairobi: 内罗毕 kenya
Africa/Johannesburg: 约翰内斯堡 cape_town 开普敦
America/New_York: 纽约 nyc boston 波士顿 washington 华盛顿 washington_dc miami 迈阿密 atlanta
    philadelphia
America/Chicago: 芝加哥 houston 休斯敦 dallas austin
America/Denver: 丹佛 salt_lake_city
America/Phoenix: 凤凰城
America/Los_Angeles: 洛杉矶 la san_francisco 旧金山 seattle 西雅图 san_diego las_vegas 拉斯维加斯
    silicon_valley 硅谷 portland
America/Anchorage: alaska
Pacific/Honolulu: hawaii 夏威夷 檀香山
America/Toronto: 多伦多 ottawa montreal 蒙特利尔
America/Vancouver: 温哥华
America/Mexico_City: 墨西哥城
America/Sao_Paulo: 圣保罗 rio_de_janeiro 里约热内卢 rio
America/Argentina/Buenos_Aires: 布宜诺斯艾利斯
America/Bogota: 波哥大
America/Lima: 利马
America/Santiago: 圣地亚哥
Australia/Sydney: 悉尼 canberra
Australia/Melbourne: 墨尔本
Australia/Brisbane: 布里斯班
Australia/Perth: 珀斯
Pacific/Auckland: 奥克兰 new_zealand wellington
"""
_ABBREVIATIONS = {
    "z": "UTC",
    "gmt": "UTC",
    "cst": "Asia/Shanghai (China) or America/Chicago (US Central)",
    "ist": "Asia/Kolkata (India), Europe/Dublin or Asia/Jerusalem",
    "bst": "Europe/London or Asia/Dhaka",
    "est": "America/New_York",
    "edt": "America/New_York",
    "cdt": "America/Chicago",
    "mst": "America/Denver or America/Phoenix",
    "mdt": "America/Denver",
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "jst": "Asia/Tokyo",
    "kst": "Asia/Seoul",
}
_AMBIGUOUS = frozenset({"cst", "ist", "bst", "mst"})
_OFFSET_PATTERN = re.compile(r"(?:utc|gmt)?([+-])([0-9]{1,2})(?::?([0-9]{2}))?")
_SUFFIX_PATTERN = re.compile(r"(?:[ _](?:standard[ _])?time|时间|市)$")
_MAX_NAME_LENGTH = 80


@lru_cache(maxsize=1)
def _load_zones() -> dict[str, str]:
    """Return the IANA name for each accepted name in lower case."""
    known = sorted(available_timezones())
    names = {zone.rsplit("/", 1)[-1].lower(): zone for zone in known if "/" in zone}
    names.update((zone.lower(), zone) for zone in known)
    for entry in re.sub(r"\n +", " ", _CITIES).strip().splitlines():
        zone, _, cities = entry.partition(":")
        names.update((city, zone) for city in cities.split())
    clear = _ABBREVIATIONS.keys() - _AMBIGUOUS
    names.update((short, _ABBREVIATIONS[short]) for short in clear)
    return {name: zone for name, zone in names.items() if name not in _AMBIGUOUS}


def find_zone(name: str) -> tuple[str, tzinfo]:
    """Return a zone with its IANA name or offset; the ValueError suggests close matches."""
    text = name.strip()[: _MAX_NAME_LENGTH + 1].replace("−", "-")
    key = re.sub(r"[ _]+", "_", text.lower())
    offset = _OFFSET_PATTERN.fullmatch(key)
    if offset:
        return _make_fixed_zone(name, offset)
    if key in _AMBIGUOUS:
        raise ValueError(f"{name!r} is more than one time zone: use {_ABBREVIATIONS[key]}")
    zones = _load_zones()
    simplified = _SUFFIX_PATTERN.sub("", key).replace("'", "").replace(".", "")
    zone = zones.get(key) or zones.get(simplified)
    if zone is None:
        near = difflib.get_close_matches(key, zones, n=4, cutoff=0.6)
        matches = ", ".join(dict.fromkeys(zones[match] for match in near))
        hint = f"; close matches: {matches}" if near else ""
        raise ValueError(
            f"unknown time zone {text[:_MAX_NAME_LENGTH]!r}{hint}. Use an IANA name such as "
            "Asia/Shanghai, a large city, or an offset such as UTC+8"
        )
    try:
        return zone, ZoneInfo(zone)
    except ZoneInfoNotFoundError:
        raise ValueError(f"no data of {zone} on this machine: install the package tzdata") from None


def _make_fixed_zone(name: str, offset: re.Match[str]) -> tuple[str, tzinfo]:
    sign, hours, minutes = offset.group(1), int(offset.group(2)), int(offset.group(3) or 0)
    if hours > 14 or minutes > 59:
        raise ValueError(f"{name!r} is not a UTC offset: they go from UTC-12:00 to UTC+14:00")
    delta = timedelta(hours=hours, minutes=minutes)
    zone = timezone(delta if sign == "+" else -delta)
    return f"UTC{sign}{hours:02}:{minutes:02}", zone
