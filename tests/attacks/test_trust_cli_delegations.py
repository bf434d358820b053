"""Delegations as any TUF client is judged by them: order of search, paths, names, keys.

The companion of ``test_trust_cli``: the same command line over HTTP.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, TargetFile, Targets

from muster_agent.trust.time import DAY_SECONDS
from support.tuf_repository import Repository, moment, signers
from support.tuf_server import TufClient, TufServer


@pytest.fixture
def repository() -> Repository:
    return Repository(models=(), now=int(time.time()))


@pytest.fixture
def server(repository: Repository) -> Iterator[TufServer]:
    with TufServer(repository.files) as served:
        yield served


@pytest.fixture
def client(tmp_path: Path, server: TufServer, repository: Repository) -> TufClient:
    """Initialised with the factory root."""
    made = TufClient(tmp_path, server)
    assert made.init(repository.factory_root) == 0
    return made


class Tree:
    """Delegations below targets; every role is signed by one key of its own."""

    def __init__(self, repository: Repository, server: TufServer) -> None:
        self.repository = repository
        self.server = server

    def delegate(
        self, delegator: str, name: str, paths: str = "*", *, terminating: bool = False
    ) -> None:
        roles, keys = self.repository.roles, self.repository.keys
        if name not in roles:
            keys[name] = signers()
            roles[name] = Metadata(Targets(1, expires=moment(self.repository.now + DAY_SECONDS)))
        signed = roles[delegator].signed
        if signed.delegations is None:
            signed.delegations = Delegations({}, {})
        public: Key = keys[name][0].public_key
        signed.delegations.keys[public.keyid] = public
        signed.delegations.roles[name] = DelegatedRole(
            name, [public.keyid], 1, terminating, paths.split()
        )

    def artifact(self, role: str, path: str) -> None:
        target = TargetFile.from_data(path, path.encode(), ["sha256"])
        self.repository.roles[role].signed.targets[path] = target
        self.server.offer(target, path.encode())

    def publish(self) -> None:
        top = {"root", "snapshot", "timestamp"}
        self.repository.publish(*(role for role in self.repository.roles if role not in top))


@pytest.fixture
def tree(repository: Repository, server: TufServer) -> Tree:
    del repository.roles["targets"].signed.delegations.roles["director"]
    return Tree(repository, server)


GRAPHS = {
    "one": ("targets>A", "A"),
    "two beside each other": ("targets>A targets>B", "A B"),
    "two levels": ("targets>A targets>B B>C", "A B C"),
    "depth first": ("targets>A targets>B A>C A>D", "A C D B"),
    "three levels": ("targets>A targets>B A>C C>D", "A C D B"),
    "a terminating one ends the search": ("targets>A targets>B A>C! A>D", "A C"),
    "a terminating one's own children count": ("targets>A targets>B A>C! C>D", "A C D"),
    "paths that don't match are not visited": ("targets>A:*.py targets>B A>C", "B"),
    "nor those below": ("targets>A targets>B A>C:*.py C>D", "A B"),
    "a circle is walked once": ("targets>A targets>B B>C C>D D>B", "A B C D"),
    "a child of two is visited once": ("targets>A targets>B B>C A>C", "A C B"),
    "by the way that matches": ("targets>A targets>B B>C A>C:*.py", "A B C"),
}


@pytest.mark.parametrize(("edges", "order"), GRAPHS.values(), ids=GRAPHS.keys())
def test_delegations_are_searched_depth_first_in_their_order(
    client: TufClient, server: TufServer, tree: Tree, edges: str, order: str
) -> None:
    for edge in edges.split():
        delegator, _, rest = edge.partition(">")
        name, _, paths = rest.rstrip("!").partition(":")
        tree.delegate(delegator, name, paths or "*", terminating=rest.endswith("!"))
    tree.publish()
    assert client.download("missing") == 1
    assert [file.split(".")[1] for file in server.asked[4:]] == order.split()


@pytest.mark.parametrize(
    ("path", "found", "order"),
    [
        ("plain", True, ""),
        ("README.md", True, "A"),
        ("releases/x/x_v1", True, "B C"),
        ("releases/y/y_v1.zip", True, "B D"),
        ("releases/z/z_v1.zip", False, "B"),
    ],
)
def test_an_artifact_is_found_only_where_every_delegation_on_the_way_covers_it(
    client: TufClient, server: TufServer, tree: Tree, path: str, *, found: bool, order: str
) -> None:
    tree.delegate("targets", "A", "*.doc *.md")
    tree.delegate("targets", "B", "releases/*/*")
    tree.delegate("B", "C", "releases/x/*")
    tree.delegate("B", "D", "releases/y/*.zip")
    for role, name in (
        ("targets", "plain"), ("A", "README.md"), ("C", "releases/x/x_v1"),
        ("D", "releases/y/y_v1.zip"), ("D", "releases/z/z_v1.zip"),
    ):  # fmt: skip
        tree.artifact(role, name)
    tree.publish()
    assert client.download(path) == (0 if found else 1)
    assert client.downloaded() == ([path.encode()] if found else [])
    assert [file.split(".")[1] for file in server.asked[4:]] == order.split()


@pytest.mark.parametrize("name", ["?", "#", "/delegated", "../delegated", "sums", "ünïcode", "."])
def test_a_role_of_any_name_stays_a_file_of_the_store(
    client: TufClient, tree: Tree, tmp_path: Path, name: str
) -> None:
    tree.delegate("targets", name)
    tree.artifact(name, "artifact")
    quoted = tree.repository.files
    tree.publish()
    version = tree.repository.roles[name].signed.version
    quoted[f"{version}.{quote(name, '')}.json"] = quoted[f"{version}.{name}.json"]
    assert client.download("artifact") == 0
    assert client.download("artifact") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metadata", "targets", "trusted_root.json",
    ]  # fmt: skip


def test_a_delegated_role_signed_by_another_key_is_refused(
    client: TufClient, server: TufServer, tree: Tree
) -> None:
    tree.delegate("targets", "A")
    tree.artifact("A", "artifact")
    own, tree.repository.keys["A"] = tree.repository.keys["A"], signers()
    tree.publish()
    assert client.download("artifact") == 1
    tree.repository.keys["A"] = own
    tree.publish()
    assert client.download("artifact") == 0


def test_an_expired_delegated_role_offers_nothing(client: TufClient, tree: Tree) -> None:
    tree.delegate("targets", "A")
    tree.artifact("A", "artifact")
    repository = tree.repository
    repository.roles["A"].signed.expires = moment(repository.now - DAY_SECONDS)
    repository.write("A")
    repository.publish("targets")
    assert client.download("artifact") == 1
    tree.publish()
    assert client.download("artifact") == 0
