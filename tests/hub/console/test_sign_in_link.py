"""Links that sign somebody in once: looked at as often as one likes, used once, and soon."""

import threading

import pytest
from sqlmodel import select

from muster_hub.access.links import LINK_SECONDS, make_link
from muster_hub.admin import main
from muster_hub.api.app import PREFIX
from muster_hub.console.session import SESSION_SECONDS
from muster_hub.storage.governance import SignInLink
from muster_hub.storage.models import ApiToken, Audit
from support.console_kit import browser
from support.hub_kit import Kit, open_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    made = open_kit(tmp_path_factory.mktemp("links"))
    yield made
    made.close()


def link(kit: Kit, name: str = "ada", role: str = "operator") -> str:
    with kit.hub.store.write() as session:
        return make_link(session, name, role, kit.clock())


def test_a_link_begins_a_session_of_its_role_and_only_once(kit: Kit) -> None:
    code, client = link(kit), browser(kit)
    page = client.get("/sign-in-link", params={"code": code}).text
    assert "<bdi>ada</bdi> (operator)" in page
    answer = client.post("/sign-in-link", data={"code": code})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    assert "operator" in client.get("/").text
    other = browser(kit)
    for again in (
        other.post("/sign-in-link", data={"code": code}),
        other.get("/sign-in-link", params={"code": code}),
    ):
        assert again.status_code == 403
        assert "was used already" in again.text
    assert not other.cookies


def test_looking_at_a_link_as_mail_scanners_do_uses_nothing_up(kit: Kit) -> None:
    code = link(kit)
    for _ in range(5):
        assert browser(kit).get("/sign-in-link", params={"code": code}).status_code == 200
    assert browser(kit).post("/sign-in-link", data={"code": code}).status_code == 303


def test_a_link_ends_after_ten_minutes_and_is_then_forgotten(kit: Kit) -> None:
    code = link(kit)
    kit.clock.now += LINK_SECONDS
    assert browser(kit).post("/sign-in-link", data={"code": code}).status_code == 403
    link(kit, "ben")
    with kit.hub.store.read() as session:
        assert [row.name for row in session.exec(select(SignInLink))] == ["ben"]


def test_the_database_holds_no_code_and_a_code_is_no_token(kit: Kit) -> None:
    code = link(kit)
    assert code.encode() not in (kit.hub.config.data / "hub.db").read_bytes()
    headers = {"Authorization": f"Bearer {code}"}
    assert kit.http.get(f"{PREFIX}/devices", headers=headers).status_code == 401


def test_a_session_of_a_link_ends_with_its_own_token(kit: Kit) -> None:
    client = browser(kit)
    client.post("/sign-in-link", data={"code": link(kit, "eva")})
    with kit.hub.store.write() as session:
        (row,) = session.exec(select(ApiToken).where(ApiToken.name == "eva"))
        assert row.expires == kit.clock() + SESSION_SECONDS
        row.revoked = kit.clock()
    assert client.get("/").status_code == 303


def test_of_many_who_come_with_one_link_at_once_one_gets_in(kit: Kit) -> None:
    code, answers = link(kit), []

    def come() -> None:
        answers.append(browser(kit).post("/sign-in-link", data={"code": code}).status_code)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [303] + 5 * [403]


def test_a_page_of_another_site_can_t_sign_somebody_in(kit: Kit) -> None:
    code = link(kit)
    headers = {"Origin": "https://evil.example"}
    answer = browser(kit).post("/sign-in-link", data={"code": code}, headers=headers)
    assert answer.status_code == 403
    assert browser(kit).post("/sign-in-link", data={"code": code}).status_code == 303


def test_an_operator_makes_a_link_on_the_hub_s_machine_and_the_log_says_so(kit: Kit, capsys):
    data = str(kit.hub.config.data)
    with pytest.raises(SystemExit) as ended:
        main.main(["console", "link", "eve", "--role", "viewer", "--data", data])
    assert not ended.value.code
    address, words = capsys.readouterr().out.splitlines()
    assert address.startswith(f"{kit.hub.config.url}/sign-in-link?code=")
    assert words == "It signs eve (viewer) in once, within 10 minutes."
    with kit.hub.store.read() as session:
        row = session.exec(select(Audit).order_by(Audit.id.desc())).first()
        assert (row.action, row.subject, row.detail["role"]) == (
            "sign-in-link.make", "eve", "viewer"
        )  # fmt: skip
