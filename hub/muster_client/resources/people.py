"""People: what each may do here, and links that sign them in to the console."""

from collections.abc import Iterable, Iterator
from typing import TypedDict, cast

from muster_client.answers import Scoped
from muster_client.failures import OperatorError
from muster_client.resources.base import Resource
from muster_client.transport import part


class Person(Scoped):
    """Somebody whom the identity provider knows, with a role here."""

    name: str
    created: float
    created_by: str


class SignInLink(TypedDict):
    """A link that is good once, until a time in seconds since 1970."""

    url: str
    expires: float


class People(Resource):
    """People by the name that the identity provider gives them."""

    def list(self) -> Iterator[Person]:
        """People who have a role of their own here; members of groups need no entry."""
        return cast("Iterator[Person]", self._api.pages("/users"))

    def add(
        self, name: str, role: str = "viewer", *, models: Iterable[str] = (), selector: str = ""
    ) -> Person:
        """Give somebody new a role. Raises OperatorError for who has one: see ``role``."""
        if any(person["name"] == name for person in self.list()):
            raise OperatorError(f"{name} has a role already: `muster user role` changes it")
        return self._put(name, role, models, selector)

    def role(
        self, name: str, role: str, *, models: Iterable[str] = (), selector: str = ""
    ) -> Person:
        """Change what somebody may do. Raises OperatorError for who has no role yet."""
        if all(person["name"] != name for person in self.list()):
            raise OperatorError(f"{name} has no role yet: `muster user add` gives one")
        return self._put(name, role, models, selector)

    def remove(self, name: str) -> None:
        """Take somebody's role away; a group of theirs may still give one."""
        self._api.delete(f"/users/{part(name)}")

    def link(self, name: str, role: str = "viewer", *, owner: str = "") -> SignInLink:
        """A link that signs somebody in to the console, once and soon.

        ``owner``: the person, as they log in; empty: ``name``.
        """
        body = {"name": name, "role": role, "owner": owner}
        made: SignInLink = self._api.post("/sign-in-links", body)
        return made

    def _put(self, name: str, role: str, models: Iterable[str], selector: str) -> Person:
        body = {"role": role, "models": list(models), "selector": selector}
        found: Person = self._api.put(f"/users/{part(name)}", body)
        return found
