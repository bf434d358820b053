"""What a version must show before it may be signed: each gate, and a policy at the hub's check."""

import json
from contextlib import ExitStack

import msgspec
import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import muster_client
from muster_hub.errors import Invalid
from muster_hub.registry.check import CheckResult
from muster_hub.registry.gates import registry
from muster_hub.registry.gates.base import Shown
from muster_hub.registry.gates.registry import GATES, judge, read_policy, refusal
from muster_hub.registry.release import Releases
from muster_protocol.wire import card, manifest
from muster_protocol.wire.card import CardText
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.listing import cut_file
from support import models as fixtures
from support.console_kit import signed_in
from support.hub_kit import API, is_problem, open_kit

W, B = fixtures.weights()
CLASSES = ("ok", "worn", "dry")
CARD = CardText(
    intended_use="pumps of line 2", limitations="no cold start", contact="ann@x.example"
)
BY_SITE = {
    "accuracy{site=berlin}": 0.95, "rows{site=berlin}": 400.0,
    "accuracy{site=oslo}": 0.76, "rows{site=oslo}": 300.0,
    "accuracy{site=rome}": 0.2, "rows{site=rome}": 3.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A manifest to put metrics into."""
    folder = tmp_path_factory.mktemp("bundle")
    fixtures.write_bundle(folder)
    return manifest.decode((folder / "manifest.json").read_bytes())


def version(plain, metrics=None, *, name="2", **more):
    lineage = manifest.Lineage(metrics=metrics or {})
    parsed = msgspec.structs.replace(plain, lineage=lineage, version=name)
    facts = more.pop("facts", {"latency_ms": 2.0, "golden_cases": 8})
    return Shown(parsed, (facts,), **more)


def judged(rule, candidate, champion=None):
    (verdict,) = judge(read_policy([rule]), candidate, champion)
    return verdict


def metric(**bounds):
    return {"gate": "metric", "metric": "accuracy", **bounds}


@pytest.mark.parametrize(
    ("bounds", "value", "says"),
    [
        ({"min": 0.9}, 0.9, ""),
        ({"min": 0.9}, 0.89, "0.89 is below 0.9 (the policy's least)"),
        ({"max": 0.5}, 0.6, "0.6 is above 0.5 (the policy's most)"),
        ({"drop_max": 0.01}, 0.935, ""),
        ({"drop_max": 0.01}, 0.92, "0.92 is below 0.93 (champion dense 1: 0.94)"),
        ({"rise_max": 0.01}, 0.96, "0.96 is above 0.95 (champion dense 1: 0.94)"),
    ],
)
def test_a_metric_stays_within_its_bounds_and_near_the_champions(plain, bounds, value, says):
    champion = version(plain, {"accuracy": 0.94}, name="1")
    found = judged(metric(**bounds), version(plain, {"accuracy": value}), champion)
    assert found.ok == (not says)
    assert says in found.says


def test_a_metric_that_is_missing_is_refused_with_those_there_are(plain):
    found = judged(metric(min=0.9), version(plain, {"auc": 0.9}))
    assert not found.ok
    assert "it has auc" in found.says


def test_without_a_champion_only_fixed_bounds_count(plain):
    assert judged(metric(drop_max=0.0), version(plain, {"accuracy": 0.1})).ok


def fairness(**bounds):
    return {"gate": "fairness", "metric": "accuracy", "group": "site", **bounds}


@pytest.mark.parametrize(
    ("bounds", "ok", "says"),
    [
        ({"ratio_min": 0.8}, True, "ratio 0.8, difference 0.19 (oslo 0.76, berlin 0.95)"),
        ({"ratio_min": 0.81}, False, "ratio 0.8 is below 0.81 (oslo 0.76, berlin 0.95)"),
        ({"difference_max": 0.1}, False, "difference 0.19 is above 0.1"),
        ({"difference_max": 0.1, "rows_min": 350}, False, "1 groups have 350 rows or more"),
        ({"ratio_min": 0.8, "rows_min": 1}, False, "ratio 0.211 is below 0.8 (rome 0.2"),
    ],
)
def test_groups_that_are_large_enough_must_fare_alike(plain, bounds, ok, says):
    found = judged(fairness(**bounds), version(plain, BY_SITE))
    assert found.ok == ok
    assert says in found.says
    assert found.detail["too_small"] == sorted(
        {"berlin", "oslo", "rome"} - found.detail["groups"].keys()
    )


def test_a_model_without_groups_is_not_fair_but_unknown(plain):
    found = judged(fairness(ratio_min=0.8), version(plain, {"accuracy": 0.9}))
    assert not found.ok
    assert "pack with --group site" in found.says


@pytest.mark.parametrize(
    ("rule", "ok", "says"),
    [
        ({"gate": "golden", "cases_min": 8}, True, "8 cases"),
        ({"gate": "golden", "cases_min": 9}, False, "8 cases are fewer than 9"),
        ({"gate": "latency", "milliseconds_max": 2.0}, True, "2 ms"),
        ({"gate": "latency", "milliseconds_max": 1.5}, False, "2 ms is above 1.5 ms"),
        ({"gate": "size", "bytes_max": 10}, False, "are above 10"),
        ({"gate": "size", "bytes_max": 10_000_000}, True, "bytes"),
        ({"gate": "baseline"}, False, "there is none"),
        ({"gate": "signature"}, False, "no model.sig"),
        ({"gate": "card"}, False, "there is none: pack with --card"),
    ],
)
def test_what_else_a_version_has_to_show(plain, rule, ok, says):
    found = judged(rule, version(plain))
    assert found.ok == ok
    assert says in found.says
    assert (refusal([found]) == "") == ok


def test_a_card_must_say_what_the_policy_asks_for(plain):
    assert judged({"gate": "card"}, version(plain, card=CARD)).ok
    found = judged({"gate": "card", "fields": ["contact", "risks"]}, version(plain, card=CARD))
    assert found.says == "it says nothing of risks"
    assert judged({"gate": "signature"}, version(plain, signed=True)).ok


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ([{"gate": "beauty"}], "there are the gates metric, fairness"),
        ([{"gate": "size"}], "bytes_max"),
        ([{"gate": "metric", "metric": "a", "least": 1}], "least"),
        ([{"gate": "card", "fields": ["colour"]}], "no field 'colour'"),
        ([{"gate": "baseline"}] * (registry.RULES_MAX + 1), "at most 64"),
        ("none", "array"),
    ],
)
def test_a_policy_that_can_not_be_read_is_refused(stored, words):
    with pytest.raises(Invalid, match=words):
        read_policy(stored)


def test_every_gate_there_is_can_be_asked_for():
    rules = [
        metric(min=1.0), fairness(), {"gate": "golden"}, {"gate": "latency", "milliseconds_max": 1},
        {"gate": "size", "bytes_max": 1}, {"gate": "baseline"}, {"gate": "signature"},
        {"gate": "card"},
    ]  # fmt: skip
    assert [rule["gate"] for rule in rules] == [*GATES]
    assert len(read_policy(rules)) == len(GATES)


# At the hub


def passes(_bundle, parsed):
    facts = {"latency_ms": 1.0, "golden_cases": 16}
    return CheckResult(
        ok=True,
        builds=[{"runtime": b.runtime, "ok": True, "facts": facts} for b in parsed.builds],
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A model packed with groups and a card."""
    folder = tmp_path_factory.mktemp("pump")
    rows = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
    truth = [CLASSES[place] for place in fixtures.softmax(rows, W, B).argmax(axis=1)]
    lines = [
        f"{','.join(map(str, row))},{label if i % 3 else 'ok'},{'oslo' if i % 3 else 'rome'}"
        for i, (row, label) in enumerate(zip(rows.tolist(), truth, strict=True))
    ]
    (folder / "train.csv").write_text("\n".join(["flow,temp,p1,p2,state,site", *lines]) + "\n")
    (folder / "pump.onnx").write_bytes(fixtures.dense_onnx(W, B))
    (folder / "card.toml").write_text(
        'intended_use = "Pumps of line 2"\nlimitations = "Cold starts | and `more`"\n'
        'contact = "ann@x.example"\nlicence = "Apache-2.0"\nrisks = "a pump stops"\n'
    )
    found = muster_client.pack(
        folder / "pump.onnx", str(folder / "train.csv"), out=folder / "bundle", labels="state",
        group=["site"], card=str(folder / "card.toml"), classes=list(CLASSES), shuffled=True,
    )  # fmt: skip
    return found.folder


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def release(kit, folder):
    """Push and check a bundle, as the hub does in the background; its row."""
    hub = kit.hub
    releases = Releases(hub.store, hub.blobs, hub.catalogue, passes, clock=kit.clock)
    encoded = (folder / "manifest.json").read_bytes()
    parsed = manifest.decode(encoded)
    with ExitStack() as stack:
        files = {e.path: stack.enter_context((folder / e.path).open("rb")) for e in parsed.files}
        releases.push(encoded, files, "token:ci", model=parsed.model)
    releases.advance(parsed.model, parsed.version)
    path = f"{API}/models/{parsed.model}/versions/{parsed.version}"
    return kit.http.get(path, headers=kit.as_("viewer")).json()


def put_policy(kit, *gates, role="admin"):
    path = f"{API}/models/pump/policy"
    return kit.http.put(path, json={"gates": list(gates)}, headers=kit.as_(role))


def test_metrics_of_groups_and_the_card_are_packed_with_the_model(bundle):
    parsed = manifest.decode((bundle / "manifest.json").read_bytes())
    metrics = parsed.lineage.metrics
    assert metrics["rows{site=rome}"] == 100
    assert metrics["accuracy{site=oslo}"] == 1.0
    assert metrics["accuracy{site=rome}"] < 0.8
    assert "card.json" in {file.path for file in parsed.files}
    assert [tensor.shape for tensor in parsed.inputs] == [(-1, 4)]


def test_an_unfair_version_is_rejected_by_gate_value_and_bound(kit, bundle):
    assert put_policy(kit, fairness(ratio_min=0.9), {"gate": "card"}).status_code == 200
    found = release(kit, bundle)
    assert found["status"] == "rejected"
    reason = found["check"]["reason"]
    assert reason.startswith("gate fairness accuracy by site: ratio 0.")
    assert "is below 0.9 (rome 0." in reason
    assert [gate["ok"] for gate in found["check"]["gates"]] == [False, True]


def test_a_version_that_passes_is_signed_and_its_papers_say_so(kit, bundle):
    put_policy(kit, metric(min=0.5), {"gate": "card"}, {"gate": "size", "bytes_max": 10**9})
    assert release(kit, bundle)["status"] == "published"
    reader = kit.as_("viewer")
    alias = f"{API}/models/pump/aliases/champion"
    assert kit.http.put(alias, json={"version": "1"}, headers=kit.as_("releaser")).is_success
    found = kit.http.get(f"{API}/models/pump/versions/1/card", headers=reader).json()
    assert found["said"]["intended_use"] == "Pumps of line 2"
    assert found["groups"]["site"]["rome"]["rows"] == 100
    assert found["aliases"] == ["champion"]
    explained = found["explanation"]
    assert (explained["measure"], explained["rows"]) == ("accuracy", 256)
    assert {each["name"] for each in explained["features"]} == {"flow", "temp", "p1", "p2"}
    text = kit.http.get(f"{API}/models/pump/versions/1/card.md", headers=reader).text
    assert (
        f"| {explained['features'][0]['name']} | {explained['features'][0]['importance']:g} |"
        in text
    )
    assert "share of right answers that is lost" in text
    page = signed_in(kit).get("/models/pump/1").text
    assert page.count('aria-label="importance of ') == 4
    assert page.count('aria-label="mean answer over ') == 4
    assert r"Cold starts \| and \`more\`" in text
    assert "_Nobody has said._" in text
    assert "| metric accuracy | passed |" in text
    bill = kit.http.get(f"{API}/models/pump/versions/1/bill", headers=reader).json()
    fault = JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(bill))
    assert fault is None, fault
    component = bill["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    slices = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {item.get("slice") for item in slices} == {None, "site=oslo", "site=rome"}
    assert {file["name"] for file in bill["components"]} >= {"model.onnx", "golden.npz"}


@pytest.mark.parametrize("file", ["card.json", "explanation.json", "sampling.json"])
def test_a_paper_that_cannot_be_read_is_refused_at_the_check_whatever_the_policy(
    kit, tmp_path, file
):
    fixtures.write_bundle(tmp_path / "odd")
    (tmp_path / "odd" / file).write_text('{"contact": 3}')
    with (tmp_path / "odd" / file).open("rb") as opened:
        entry = cut_file(file, opened, lambda _piece: None)
    encoded = (tmp_path / "odd" / "manifest.json").read_bytes()
    parsed = manifest.decode(encoded)
    changed = msgspec.structs.replace(parsed, files=(*parsed.files, entry))
    (tmp_path / "odd" / "manifest.json").write_bytes(manifest.encode(changed))
    found = release(kit, tmp_path / "odd")
    assert found["status"] == "rejected"
    assert file in found["check"]["reason"]


def test_a_bundle_whose_card_is_none_is_refused(plain):
    with pytest.raises(ProtocolError, match=r"card\.json"):
        card.decode(b'{"intended_use": 3}')
    with pytest.raises(ProtocolError, match="limit"):
        card.decode(b" " * 65_537)


def test_a_policy_is_an_admins_and_is_kept_with_who_and_when(kit):
    is_problem(put_policy(kit, {"gate": "card"}, role="releaser"), 403, "forbidden")
    assert put_policy(kit, {"gate": "card"}).json()["by"] == "token:a-admin"
    is_problem(put_policy(kit, {"gate": "beauty"}), 422, "invalid")
    path = f"{API}/models/pump/policy"
    assert kit.http.get(path, headers=kit.as_("viewer")).json()["gates"] == [{"gate": "card"}]
    assert kit.http.delete(path, headers=kit.as_("admin")).status_code == 204
    is_problem(kit.http.get(path, headers=kit.as_("viewer")), 404, "not_found")


def test_an_alias_stands_for_one_version_and_its_past_stays(kit, bundle):
    release(kit, bundle)
    path, by = f"{API}/models/pump/aliases", kit.as_("releaser")
    asked = {"version": "1", "reason": "the first"}
    assert kit.http.put(f"{path}/champion", json=asked, headers=by).json()["version"] == "1"
    assert kit.http.put(f"{path}/champion", json=asked, headers=by).status_code == 200
    is_problem(
        kit.http.put(f"{path}/champion", json={"version": "9"}, headers=by), 404, "not_found"
    )
    is_problem(kit.http.put(f"{path}/No%20", json={"version": "1"}, headers=by), 422, "invalid")
    assert kit.http.delete(f"{path}/champion", headers=by).status_code == 204
    is_problem(kit.http.delete(f"{path}/champion", headers=by), 404, "not_found")
    found = kit.http.get(path, headers=by).json()
    assert found["aliases"] == []
    assert [(c["version"], c["reason"]) for c in found["history"]] == [
        (None, ""), ("1", "the first"),
    ]  # fmt: skip
