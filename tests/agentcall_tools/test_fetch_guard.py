"""What may be fetched: forms of URLs that have got past other guards, and what has to go through.

The forms are those of
- pydantic-ai 2.68, tests/test_ssrf.py (MIT),
- PayloadsAllTheThings, "Server Side Request Forgery" (MIT),
- EdOverflow, bugbounty-cheatsheet, cheatsheets/ssrf.md,
- Orange Tsai, "A New Era of SSRF", Black Hat USA 2017,
and our own. A name is looked up where there is a network; none of these depends on it.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall_tools.fetch import FetchError, is_allowed
from agentcall_tools.fetch.guard import FetchGuard, parse_allowed_host
from agentcall_tools.fetch.public_address import is_public
from agentcall_tools.fetch.url import parse_url

PYDANTIC_AI_PRIVATE = str.split(
    """
127.0.0.1 127.0.0.2 127.255.255.255 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1
192.168.255.255 169.254.0.1 169.254.255.255 0.0.0.0 0.255.255.255 100.64.0.1 100.127.255.255
100.100.100.200 192.0.0.1 192.0.0.170 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 ::1 fe80::1 fe80::ffff:ffff:ffff:ffff fc00::1
fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2002::1 2002:c0a8:0101::1 2002:0a00:0001::1 :: 100::1
2001::1 2001:db8::1 ff02::1 64:ff9b::192.168.1.1 64:ff9b::a9fe:a9fe 64:ff9b:1::192.168.1.1
64:ff9b:1:c0a8:1:100:: ::192.168.1.1 ::10.0.0.1 ::a9fe:a9fe 2606:4700::5efe:192.168.1.1
2606:4700::200:5efe:169.254.169.254 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:192.168.1.1
::ffff:172.16.0.1 169.254.169.254 169.254.170.2 169.254.170.23 168.63.129.16 192.0.0.192
169.254.42.42 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42 ::ffff:169.254.169.254
::ffff:a9fe:a9fe ::ffff:100.100.100.200 64:ff9b::169.254.169.254 64:ff9b::100.100.100.200
2002:a9fe:a9fe:: 2002:6464:64c8:: 64:ff9b:1::169.254.169.254 64:ff9b:1:a9fe:a9:fe00::
::169.254.169.254 2606:4700::5efe:169.254.169.254 2001:db8:64::a9fe:a9fe 64:ff9b::169.254.170.2
2001::5601:5601
"""
)
PYDANTIC_AI_SCHEMES = [
    "file:///etc/passwd", "ftp://ftp.example.com/file.txt", "gopher://gopher.example.com",
    "gs://bucket/object", "s3://bucket/key", "data:text/plain,hello", "javascript:alert(1)",
    "http://", "not-an-ip", "",
]  # fmt: skip
PYDANTIC_AI_PUBLIC = [
    "http://example.com", "https://example.com", "HTTP://EXAMPLE.COM", "HTTPS://EXAMPLE.COM",
    "http://example.com:8080/path", "https://example.com/path?query=value",
    "https://example.com/path#fragment", "https://example.com:8443/file.txt",
    "https://[2606:4700:4700::1111]:8443/file.txt", "http://93.184.215.14:8080/file.txt",
    "http://8.8.8.8/path", "http://1.1.1.1/", "http://140.82.114.4/",
    "http://[2001:4860:4860::8888]/", "http://[::ffff:8.8.8.8]/", "http://[::ffff:1.1.1.1]/",
    "http://[64:ff9b::8.8.8.8]/",
]  # fmt: skip
PAYLOAD_LISTS = [
    "http://127.0.0.1:80", "http://127.0.0.1:443", "http://127.0.0.1:22", "http://0.0.0.0:80",
    "http://localhost:80", "http://localhost:443", "http://localhost:22", "https://127.0.0.1/",
    "https://localhost/", "http://[::]:80/", "http://[::]:25/ SMTP", "http://[::]:22/ SSH",
    "http://[::]:3128/ Squid", "http://0000::1:80/", "http://0000::1:3128/ Squid",
    "http://spoofed.burpcollaborator.net", "http://localtest.me",
    "http://customer1.app.localhost.my.company.127.0.0.1.nip.io", "http://mail.ebc.apple.com",
    "http://bugbounty.dod.network", "http://127.127.127.127", "http://127.0.1.3",
    "http://127.0.0.0", "http://2130706433/", "http://3232235521/", "http://3232235777/",
    "http://2852039166/", "http://0177.0.0.1/", "http://o177.0.0.1/", "http://0o177.0.0.1/",
    "http://q177.0.0.1/", "http://[0:0:0:0:0:ffff:127.0.0.1]", "localhost:+11211aaa",
    "localhost:00011211aaaa", "http://0/", "http://127.1", "http://127.0.1",
    "http://127.0.0.1/%61dmin", "http://127.0.0.1/%2561dmin",
    "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/", "http://ⓔⓧⓐⓜⓟⓛⓔ.ⓒⓞⓜ", "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/", "http://127．0．0．1/", "http://127%E3%80%820%E3%80%820%E3%80%821/",
    "http://１２７.0.0.1/", "http://๑๒๗.0.0.1/", "0://evil.com:80;http://google.com:80/",
    "http://127.1.1.1:80\\@127.2.2.2:80/", "http://127.1.1.1:80\\@@127.2.2.2:80/",
    "http://127.1.1.1:80:\\@@127.2.2.2:80/", "http://127.1.1.1:80#\\@127.2.2.2:80/",
    "http://make-1.2.3.4-rebind-169.254-169.254-rr.1u.ms/", "jar:http://127.0.0.1!/",
    "file://\\/\\/etc/passwd", "dict://attacker:11111/", "sftp://example.com:11111/",
    "tftp://example.com:12346/TESTUDPPACKET", "ldap://localhost:11211/%0astats%0aquit",
    "gopher://127.0.0.1:25/xHELO%20localhost", "netdoc:///etc/passwd", "php://filter", "ws://a.example/",
    "http://instance-data", "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/", "http://metadata/computeMetadata/v1/",
    "http://100.100.100.200/latest/meta-data/", "http://rancher-metadata/latest/",
    "http://192.0.0.192/latest/", "http://127.0.0.1:2379/version", "http://127.0.0.1:2375/v1.24/",
    "http://0177.1/", "http://0x7f.1/", "http://127.000.000.1", "https://520968996",
    "http://10.0.0.1.xip.io", "http://www.10.0.0.1.xip.io", "http://foo.bar.10.0.0.1.xip.io",
    "http://customer2.app.10.0.0.1.nip.io", "http://app-10-0-0-1.sslip.io", "http://7f000001.nip.io",
]  # fmt: skip
OUR_OWN_REFUSED = [
    "http://0x7f000001/", "http://0x7f.0x0.0x0.0x1/", "http://017700000001/", "http://0X7F.0.0.1/",
    "http://00000177.00000000.00000000.00000001/", "http://127.0.0.1./", "http://localhost./",
    "http://LOCALHOST/", "http://a.localhost/", "http://127.0.0.1.:80/", "http://1.2.3/",
    "http://1.2.3.256/", "http://4294967297/", "http://127.0.0.0x1/", "http://1.2.3.4.5/",
    "http://user@example.com/", "http://user:secret@example.com/", "http://example.com@127.0.0.1/",
    "http://127.0.0.1@example.com/", "http://example.com#@127.0.0.1/",
    "http://example.com?@127.0.0.1/", "http://@example.com/", "http://127%2e0%2e0%2e1/",
    "http://%31%32%37.0.0.1/", "http://example.com:0/", "http://example.com:080/",
    "http://example.com:99999/", "http://example.com:/", "http://example.com:22/",
    "http://example.com:6379/", "http://example.com:25/", "http://example.com:+80/",
    "http://example.com:8 0/", "http://example.com\t/", "http://exam\nple.com/",
    "http://example.com/\r\nHost: 127.0.0.1", "http:/127.0.0.1/", "http:127.0.0.1/",
    "http:///127.0.0.1/", "//127.0.0.1/", "http:\\\\127.0.0.1/", "http://[::1", "http://::1]/",
    "http://[fe80::1%25eth0]/", "http://[::1%251]/", "http://[::ffff:7f00:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]/", "http://[::127.0.0.1]/",
    "http://[2002:7f00:1::]/", "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b::127.0.0.1]/", "http://[fec0::1]/",
    "http://[v1.fe80::a]/", "http://[127.0.0.1]/", "http://[2606:4700::a9fe:a9fe]/",
    "http://exa\u200bmple.com/", "http://example.com\u3002evil.example/", "http://.example.com/",
    "http://example..com/", "http://-a-.example/", "http://ex ample.com/", "http://ex*mple.com/",
    "http://example.com|127.0.0.1/", "http://example.com,127.0.0.1/", "http://printer/",
    "http://kubernetes.default.svc.cluster.local/", "http://router.lan/", "http://nas.home.arpa/",
    "http://wiki.corp/", "http://db.internal/", "http://1.0.0.127.in-addr.arpa.localhost/",
    "http://magic-127-0-0-1.nip.io/", "http://192-168-1-1.sslip.io/", "http://a9fea9fe.sslip.io/",
    "http://192.88.99.1/", "https://" + "a" * 64 + ".com/", "https://" + "a." * 130 + "com/",
    "https://example.com/" + "a" * 5_000, "view-source:http://example.com/", "blob:http://a.com/",
]  # fmt: skip
OUR_OWN_ALLOWED = [
    "https://example.com./", "https://sub-domain.example.co.uk/a/b?c=d&e=%20#f", "http://a_b.com/",
    "https://medium.com/@user/post", "https://example.com/?email=a@example.com",
    "https://zh.wikipedia.org/wiki/上海", "https://bücher.example/", "https://例え.jp/",
    "https://xn--bcher-kva.example/", "https://3com.com/", "https://1.1.1.1.example.com/",
    "https://v1-2-3-4.example.com/", "https://app-0-1-2-3.example.com/", "http://172.32.0.1/",
    "http://100.128.0.1/", "http://11.0.0.1/", "http://192.167.255.255/", "http://8.8.8.8:80/",
    "http://[2a00:1450:4001:81b::200e]/", "  https://example.com/  ", "http://0x7f.example.com/",
    "https://example.com/a|b{c}", "http://198.20.0.1/", "http://[64:ff9b::101:101]/",
    "https://localhost.example.com/", "https://internal.example.com/",
]  # fmt: skip


def as_url(address: str) -> str:
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


REFUSED = [
    *map(as_url, PYDANTIC_AI_PRIVATE), *PYDANTIC_AI_SCHEMES, *PAYLOAD_LISTS, *OUR_OWN_REFUSED,
]  # fmt: skip
ALLOWED = [*PYDANTIC_AI_PUBLIC, *OUR_OWN_ALLOWED]


def test_there_are_as_many_forms_as_were_asked_for() -> None:
    theirs = {*PYDANTIC_AI_PRIVATE, *PYDANTIC_AI_SCHEMES, *PYDANTIC_AI_PUBLIC, *PAYLOAD_LISTS}
    assert len(theirs) >= 145


@each_row("url", REFUSED, ids=lambda url: ascii(url)[:70])
def test_what_is_not_of_the_public_web_is_refused(url: str) -> None:
    assert not is_allowed(url)


@each_row("url", ALLOWED, ids=lambda url: ascii(url)[:70])
def test_what_is_of_the_public_web_is_allowed(url: str) -> None:
    assert is_allowed(url)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_an_address_is_public_only_if_python_calls_it_global(address: object) -> None:
    if is_public(address):  # type: ignore[arg-type]
        inner = getattr(address, "ipv4_mapped", None) or address
        assert inner.is_global or str(address).startswith("64:ff9b::")  # type: ignore[attr-defined]


@given(st.text(max_size=60).map("http://".__add__) | st.text(max_size=60))
def test_any_text_is_a_link_that_stays_itself_or_is_refused(text: str) -> None:
    try:
        link = parse_url(text)
    except FetchError:
        return
    assert parse_url(str(link)) == link
    assert str(link).isascii()


@each_row(
    ("allow", "url", "is_so"),
    [
        (["127.0.0.1"], "http://127.0.0.1:5000/", True),
        (["127.0.0.1:8000"], "http://127.0.0.1:8000/", True),
        (["127.0.0.1:8000"], "http://127.0.0.1:8001/", False),
        (["127.0.0.1"], "http://127.0.0.2/", False),
        (["10.1.0.0/16"], "http://10.1.2.3/", True),
        (["10.1.0.0/16"], "http://10.2.0.1/", False),
        (["::1"], "http://[::1]:9000/", True),
        (["[::1]:80"], "http://[::1]/", True),
        (["[::1]:80"], "http://[::1]:81/", False),
        (["fd00::/8"], "http://[fd12::1]/", True),
        (["wiki.corp"], "http://wiki.corp/", True),
        (["*.corp"], "http://wiki.corp:8000/", True),
        (["*.corp"], "http://corp/", False),
        (["printer"], "http://printer:631/", True),
        (["10.0.0.0/8"], "http://[::ffff:10.0.0.1]/", False),
        (["169.254.0.0/16"], "http://169.254.1.1/", True),
        (["169.254.0.0/16"], "http://169.254.169.254/", False),
        (["169.254.169.254"], "http://169.254.169.254/", True),
        (["127.0.0.1"], "http://user@127.0.0.1/", False),
        (["127.0.0.1"], "http://2130706433/", False),
    ],
)
def test_a_user_allows_hosts_and_networks_on_purpose(
    allow: list[str], url: str, is_so: bool
) -> None:
    assert is_allowed(url, allow=allow) is is_so


@each_row(
    ("only", "url", "is_so"),
    [
        (["example.com"], "https://example.com/", True),
        (["example.com"], "https://www.example.com/", False),
        (["*.wikipedia.org"], "https://de.wikipedia.org/", True),
        (["*.wikipedia.org"], "https://wikipedia.org.evil.example/", False),
        (["127.0.0.1"], "http://127.0.0.1/", False),
    ],
)
def test_a_user_narrows_the_web_down(only: list[str], url: str, is_so: bool) -> None:
    assert is_allowed(url, only=only) is is_so


@each_row("text", ["", "http://a.example", "a b", "10.0.0.0/99", "a.example:x", "*"])
def test_a_place_that_cannot_be_read_is_an_error_of_the_program(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host, address or network"):
        parse_allowed_host(text)


async def guarded(name: str, *addresses: str, allow: str = "") -> list[str]:
    async def lookup(asked: str) -> list[str]:
        assert asked == name
        return list(addresses)

    guard = FetchGuard((parse_allowed_host(allow),) if allow else (), (), lookup)
    return list(await guard.resolve_addresses(parse_url(f"http://{name}/")))


async def test_a_name_of_the_public_internet_is_pinned_to_its_addresses() -> None:
    found = await guarded("a.example", "93.184.215.14", "2606:4700:4700::1111")
    assert found == ["93.184.215.14", "2606:4700:4700::1111"]


@each_row(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1"],
)
async def test_one_refused_address_refuses_the_name(address: str) -> None:
    with pytest.raises(FetchError, match=r"a\.example is not in the public internet \(it leads to"):
        await guarded("a.example", "93.184.215.14", address)


async def test_a_name_that_is_allowed_may_be_private_but_no_clouds_credentials() -> None:
    assert await guarded("wiki.corp", "10.0.0.1", allow="wiki.corp") == ["10.0.0.1"]
    with pytest.raises(FetchError, match="public"):
        await guarded("wiki.corp", "169.254.169.254", allow="wiki.corp")
    with pytest.raises(FetchError, match="public"):
        await guarded("wiki.corp", str(ip_address("fd00:ec2::254")), allow="wiki.corp")


async def test_a_name_may_lead_into_an_allowed_network() -> None:
    assert await guarded("a.example", "10.1.2.3", allow="10.1.0.0/16") == ["10.1.2.3"]


async def test_a_name_without_an_address_is_said_to_be_none() -> None:
    with pytest.raises(FetchError, match=r"there is no host a\.example"):
        await guarded("a.example")
