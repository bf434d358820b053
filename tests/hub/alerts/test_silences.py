"""Silences over the API."""

import pytest

from support.hub_kit import open_kit


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def test_a_silence_is_begun_listed_and_ended(kit):
    path, operator = "/api/v1/silences", kit.as_("operator")
    ask = {"selector": "site = berlin", "seconds": 60, "reason": "rebuilding"}
    begun = kit.http.post(path, json=ask, headers=operator)
    assert begun.status_code == 201
    item = begun.json()
    assert (item["selector"], item["reason"]) == ("site=berlin", "rebuilding")
    viewer = kit.as_("viewer")
    assert kit.http.get(path, headers=viewer).json()["items"] == [item]
    assert kit.http.post(path, json=ask, headers=viewer).status_code == 403
    ended = kit.http.post(f"{path}/{item['id']}/end", headers=operator)
    assert ended.status_code == 200
    assert kit.http.get(path, headers=viewer).json()["items"] == []
    assert kit.http.post(f"{path}/99/end", headers=operator).status_code == 404


def test_a_silence_needs_a_selector_that_can_be_read_and_an_end(kit):
    path, operator = "/api/v1/silences", kit.as_("operator")
    for ask in ({"selector": "site=("}, {"selector": ""}, {"seconds": -1}):
        answer = kit.http.post(path, json={"seconds": 60} | ask, headers=operator)
        assert answer.status_code == (201 if ask == {"selector": ""} else 422)
