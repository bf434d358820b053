"""Sessions: begun with a token, sealed, and worth no more than it; writes only from our pages."""

import httpx
import pytest
from sqlmodel import select

from muster_hub.api.app import PREFIX
from muster_hub.console import session
from muster_hub.console.session import SESSION_SECONDS, Session
from muster_hub.storage.models import ApiToken
from muster_hub.storage.sealing import Sealing
from support.console_kit import HTML, browser, signed_in, token
from support.hub_kit import Kit, open_kit, serve

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("console"))
    yield made
    made.close()


@pytest.fixture
def own_kit(tmp_path):
    """A hub that a test may spoil."""
    made = open_kit(tmp_path)
    yield made
    made.close()


def test_who_is_not_signed_in_is_led_to_the_form_and_then_to_where_they_wanted(kit: Kit) -> None:
    client = browser(kit)
    answer = client.get("/?state=offline&q=site=berlin")
    assert answer.status_code == 303
    assert answer.headers["location"] == "./sign-in?to=%3Fstate%3Doffline%26q%3Dsite%3Dberlin"
    form = {"token": token(kit), "to": "?state=offline"}
    answer = client.post("/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "./?state=offline")
    assert client.get("/").status_code == 200


def test_a_wrong_token_is_refused_in_words_and_begins_nothing(kit: Kit) -> None:
    client = browser(kit)
    answer = client.post("/sign-in", data={"token": "mst_wrong"})
    assert answer.status_code == 401
    assert "this API token isn&#39;t known here" in answer.text
    assert not client.cookies
    assert client.get("/").status_code == 303


def test_a_session_s_cookie_is_for_this_site_s_own_requests_alone(kit: Kit) -> None:
    answer = browser(kit).post("/sign-in", data={"token": token(kit)})
    parts = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", f"Max-Age={SESSION_SECONDS}"} <= set(parts)
    assert "Secure" not in parts
    assert not any(part.startswith("Path") for part in parts)
    origin = {"Origin": "https://hub.test", "Host": "hub.test"}
    by_tls = browser(kit).post("/sign-in", data={"token": token(kit)}, headers=origin)
    assert "Secure" in by_tls.headers["set-cookie"].split("; ")


def test_the_cookie_holds_no_token_in_the_clear_and_opens_only_with_this_hub_s_key(
    kit: Kit, tmp_path
) -> None:
    text = token(kit)
    client = browser(kit)
    client.post("/sign-in", data={"token": text})
    kept = client.cookies[session.COOKIE]
    assert text not in kept
    assert session.opened(kit.hub.sealing, kept, kit.clock()).bearer == text
    assert session.opened(Sealing(tmp_path), kept, kit.clock()) is None
    for forged in ("", "x", kept[:-4], kept[:40] + "AAAA" + kept[44:], "é"):
        assert session.opened(kit.hub.sealing, forged, kit.clock()) is None


def test_a_session_ends_with_its_time_and_with_its_token(own_kit: Kit) -> None:
    client, other = signed_in(own_kit, name="ada"), signed_in(own_kit, name="ben")
    with own_kit.hub.store.write() as database:
        row = database.exec(select(ApiToken).where(ApiToken.name == "ada")).one()
        row.revoked = own_kit.clock()
    assert client.get("/").status_code == 303
    assert other.get("/").status_code == 200
    own_kit.clock.now += SESSION_SECONDS + 1
    assert other.get("/").status_code == 303


def test_signing_out_takes_the_cookie_back(kit: Kit) -> None:
    client = signed_in(kit)
    answer = client.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "./sign-in")
    assert not client.cookies


def test_a_session_holds_at_another_process_of_the_same_hub(kit: Kit) -> None:
    server, thread, url = serve(kit.hub)
    try:
        cookies = signed_in(kit).cookies
        with httpx.Client(base_url=url, cookies=dict(cookies), headers=HTML, timeout=60) as other:
            assert other.get("/").status_code == 200
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_a_write_that_another_site_s_page_sends_is_refused(kit: Kit, headers) -> None:
    client = signed_in(kit)
    answer = client.post("/sign-out", headers=headers)
    assert answer.status_code == 403
    assert "not this hub" in answer.text
    assert client.cookies


def test_behind_a_proxy_that_renames_the_host_the_browser_s_own_word_counts(kit: Kit) -> None:
    headers = {"Origin": "https://plant.example", "Sec-Fetch-Site": "same-origin"}
    assert signed_in(kit).post("/sign-out", headers=headers).status_code == 303


def test_the_api_takes_no_cookie(kit: Kit) -> None:
    client = signed_in(kit)
    assert client.get(f"{PREFIX}/devices").status_code == 401
    assert client.post(f"{PREFIX}/tokens", json={"name": "x", "role": "admin"}).status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/sign-in", "/static/console.css", "/none", "/a/b/c", "/live"]
)
def test_every_answer_of_the_console_carries_its_policy(kit: Kit, path) -> None:
    for client in (browser(kit), signed_in(kit)):
        with client.stream("GET", path) as answer:
            assert answer.headers["content-security-policy"] == CSP
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_page_that_fails_says_so_under_the_same_policy(own_kit: Kit, caplog) -> None:
    client = signed_in(own_kit)
    with own_kit.hub.store.write() as database:
        database.connection().exec_driver_sql("ALTER TABLE directive RENAME TO lost")
    answer = client.get("/")
    assert answer.status_code in (500, 503)
    assert answer.headers["content-security-policy"] == CSP
    assert answer.headers["content-type"].startswith("text/html")


def test_a_page_that_is_not_there_is_said_as_a_page_with_a_way_back(kit: Kit) -> None:
    answer = signed_in(kit).get("/a/b/c")
    assert answer.status_code == 404
    assert '<a href="../../">To the fleet</a>' in answer.text
    assert signed_in(kit).get("/a/b/c", headers={"Accept": "*/*"}).json()["status"] == 404


def test_where_sign_in_leads_stays_on_this_hub(kit: Kit) -> None:
    for way in ("https://evil.example", "//evil.example", "\\\\evil.example", "../../x"):
        answer = browser(kit).post("/sign-in", data={"token": token(kit), "to": way})
        assert answer.headers["location"].startswith("./")


def test_a_link_from_an_e_mail_comes_back_to_the_session_that_the_browser_held_back(
    kit: Kit,
) -> None:
    """SameSite=Strict withholds the cookie on the way from another site, but not from ours."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    answer = browser(kit).get("/sign-in?to=devices/cam-1", headers=headers)
    assert 'content="0; url=./devices/cam-1"' in answer.text


def test_a_session_is_paced_as_its_token_is_and_not_as_a_stranger(own_kit: Kit) -> None:
    client = signed_in(own_kit)
    answers = {client.get("/static/favicon.svg").status_code for _ in range(5)}
    answers |= {client.get("/").status_code for _ in range(120)}
    assert answers == {200}


def test_forms_with_fields_unknown_or_too_long_are_refused_with_the_field_named(kit: Kit) -> None:
    answer = browser(kit).post("/sign-in", data={"token": "x" * 10_000})
    assert answer.status_code == 422
    assert "token" in answer.text


def test_a_session_struct_is_not_taken_for_a_link(kit: Kit) -> None:
    text = session.sealed(kit.hub.sealing, Session("mst_x", kit.clock() + 60), "sign-in link")
    assert session.opened(kit.hub.sealing, text, kit.clock()) is None
