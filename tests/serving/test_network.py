"""The way to a server: never through a proxy to this machine; one line that names the variable in the way."""

import ssl

import pytest

from stgrpo.errors import ServerError, UserError
from stgrpo.serving.address import parse_address
from stgrpo.serving.client import ClientSettings, HttpClient
from stgrpo.serving.network import is_excepted, route

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7890/"), ("all_proxy", "socks5h://127.0.0.1:7890"), ("HTTP_PROXY", "http://[::1"),
        ("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "[::1],fd07::/64,//"), ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_DIR", "/nonexistent"), ("REQUESTS_CA_BUNDLE", "/nonexistent"),
    ],
)  # fmt: skip
def test_this_machine_is_reached_whatever_the_environment_says(serve, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    port = serve(lambda request: (200, {}, {"ok": True})).address.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "127.1"):
        with HttpClient([f"http://{host}:{port}"], ClientSettings(retries=0)) as http:
            assert http.get("/") == {"ok": True}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "[::1]", "localhost", "a.localhost", "[::ffff:127.0.0.1]"])
def test_addresses_of_this_machine(host):
    assert parse_address(f"http://{host}:8000/v1").is_loopback
    assert not parse_address(f"http://{host.strip('[]').replace(':', '')}.example.com").is_loopback


@pytest.mark.parametrize(
    "value",
    ["socks://p:1", "ftp://p", "http://[::1", "http://p:99999", "http://", "socks4://p", "http://u:CANARY@", "\ud83d"],
)
def test_a_proxy_that_is_none_is_named_by_its_variable(monkeypatch, value):
    monkeypatch.setattr("stgrpo.serving.network.getproxies", lambda: {"all": value})
    monkeypatch.setenv("ALL_PROXY", "x")
    with pytest.raises(UserError, match="^ALL_PROXY names .*NO_PROXY$") as caught:
        route(parse_address("http://example.com"))
    assert "CANARY" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://u:CANARY@127.0.0.1:1")
    with HttpClient(["http://example.com"], ClientSettings(retries=0)) as http, pytest.raises(ServerError) as caught:
        http.get("/x")
    assert "http://example.com/x through the proxy of HTTP_PROXY" in str(caught.value)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_FILE", "/"),
        ("SSL_CERT_FILE", __file__),
        ("SSL_CERT_DIR", "/nonexistent"),
    ],
)
def test_certificates_that_are_not_there_are_named_by_their_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{name} has no certificates"):
        HttpClient(["https://example.com"])


def test_secure_addresses_are_verified():
    assert isinstance(route(parse_address("https://example.com")).verify, ssl.SSLContext)


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_a_secure_proxy_is_verified_by_the_same_certificates(monkeypatch, scheme):
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}://proxy:3128")
    way = route(parse_address("http://example.com"))
    assert isinstance(way.verify, ssl.SSLContext) and way.proxy.ssl_context is way.verify


@pytest.mark.parametrize(
    ("no_proxy", "address", "excepted"),
    [
        ("*", "http://a.b", True),
        ("a.b", "http://a.b", True),
        ("a.b", "http://x.a.b", True),
        (".a.b", "http://x.a.b", True),
        ("*.a.b", "http://x.a.b", True),
        ("a.b", "http://xa.b", False),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("fd07::/64", "http://[fd07::1]:1", True),
        ("a.b:81", "http://a.b:81", True),
        ("a.b:81", "http://a.b", False),
        (" x , A.B ", "http://a.b", True),
        ("", "http://a.b", False),
        ("[::2]", "http://[::2]", True),
    ],
)  # fmt: skip
def test_no_proxy_is_honoured(no_proxy, address, excepted):
    assert is_excepted(parse_address(address), no_proxy) is excepted
