"""People who log in elsewhere: tokens of an OpenID Connect issuer, verified by its public keys."""

import hmac
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import jwt
import msgspec

from muster_hub.errors import HubError
from muster_hub.settings.config import Oidc

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
"""Asymmetric ones only: nothing the hub holds could have made a token."""
LEEWAY_SECONDS = 30.0
KEYS_SECONDS = 3600.0
"""The issuer's keys are fetched again after this long."""
RETRY_SECONDS = 10.0
"""Least time between fetches: a flood of made-up key ids must not become a flood there."""
TIMEOUT_SECONDS = 5.0
DOCUMENT_BYTES_MAX = 1 << 20
TOKEN_CHARS_MAX = 16_384
NAME_CHARS_MAX = 255
Claims = dict[str, Any]


class TokenRefused(HubError):
    """The token isn't one to believe."""

    code = "unauthenticated"
    status = 401


class IssuerUnreachable(HubError):
    """The issuer of sign-ins does not answer: nobody can sign in just now."""

    code = "issuer_unreachable"
    status = 503


@dataclass(frozen=True)
class Login:
    """Who the issuer says this is, and in which groups."""

    name: str
    groups: tuple[str, ...]


class _Given(msgspec.Struct):
    """What a token endpoint answers, as far as it matters here."""

    id_token: str = ""
    error: str = ""


class Issuer:
    """Verifies tokens of one issuer. Its keys are fetched when needed and kept for an hour."""

    def __init__(
        self,
        settings: Oidc,
        http: httpx.Client,
        clock: Callable[[], float],
        secret: Callable[[], str] = str,
    ) -> None:
        """``secret``: of the client, for issuers that want one; empty: a public client."""
        self._settings = settings
        self._secret = secret
        self._http = http
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")

    def verify(self, token: str) -> Login:
        """Raises TokenRefused with the reason, IssuerUnreachable when there are no keys."""
        return self._login(self._checked(token, self._settings.audience))

    def authorization(self, *, redirect: str, state: str, nonce: str, challenge: str) -> str:
        """The address at the issuer where somebody signs in, to come back to ``redirect`` with a
        code. ``challenge``: of the verifier, by PKCE's S256. Raises IssuerUnreachable."""
        asked = {
            "response_type": "code", "client_id": self._settings.client_id,
            "redirect_uri": redirect, "scope": " ".join(self._settings.scopes), "state": state,
            "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        endpoint = self._endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def redeem(self, code: str, verifier: str, redirect: str, nonce: str) -> Login:
        """Who a code is for, by the ID token that the issuer gives for it.

        Raises TokenRefused, and IssuerUnreachable when the issuer doesn't answer.
        """
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": redirect,
            "code_verifier": verifier, "client_id": self._settings.client_id,
        }  # fmt: skip
        secret = self._secret()
        known = httpx.BasicAuth(quote(self._settings.client_id), quote(secret))
        try:
            answer = self._http.post(
                self._endpoint("token_endpoint"),
                data=form,
                auth=known if secret else httpx.USE_CLIENT_DEFAULT,
                timeout=TIMEOUT_SECONDS,
            )
            given = msgspec.json.decode(answer.content[:DOCUMENT_BYTES_MAX], type=_Given)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise IssuerUnreachable(f"the issuer can't be asked for a token: {error}") from None
        except (msgspec.MsgspecError, RecursionError):
            raise TokenRefused("the issuer gave no token for this sign-in") from None
        if answer.status_code != httpx.codes.OK or not given.id_token:
            why = given.error[:80] or f"it answered {answer.status_code}"
            raise TokenRefused(f"the issuer gave no token for this sign-in: {why}")
        claims = self._checked(given.id_token, self._settings.client_id)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise TokenRefused("the token is of another sign-in")
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise TokenRefused("the token was made for another client")
        return self._login(claims)

    def _endpoint(self, name: str) -> str:
        """An address of the issuer's; over TLS wherever the issuer itself is."""
        found = self.discover().get(name)
        scheme = self._settings.issuer.split(":", 1)[0]
        if not isinstance(found, str) or found.split(":", 1)[0] not in ("https", scheme):
            raise IssuerUnreachable(f"the issuer names no {name} over TLS")
        return found

    def _checked(self, token: str, audience: str) -> Claims:
        if len(token) > TOKEN_CHARS_MAX:
            raise TokenRefused(f"the token is over {TOKEN_CHARS_MAX} characters")
        claims = self._claims(token, audience)
        self._check_times(claims)
        return claims

    def _login(self, claims: Claims) -> Login:
        name = claims.get(self._settings.name_claim)
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS_MAX:
            raise TokenRefused(f"the token has no claim {self._settings.name_claim!r} with a name")
        if self._settings.name_claim == "email" and claims.get("email_verified") is not True:
            raise TokenRefused("the issuer has not verified this e-mail address")
        groups = claims.get(self._settings.groups_claim, [])
        named = groups if isinstance(groups, list) else [groups]
        return Login(name, tuple(group for group in named if isinstance(group, str)))

    def discover(self) -> Claims:
        """The issuer's discovery document. Raises IssuerUnreachable."""
        base = self._settings.issuer.rstrip("/")
        document = self._fetch(f"{base}/.well-known/openid-configuration")
        if document.get("issuer") != self._settings.issuer:
            raise IssuerUnreachable(
                f"{base} calls itself {document.get('issuer')!r}: [oidc] issuer must be the same"
            )
        return document

    def _claims(self, token: str, audience: str) -> Claims:
        try:
            header = jwt.get_unverified_header(token)
            algorithm = str(header.get("alg"))
            if algorithm not in ALGORITHMS:
                raise TokenRefused(f"tokens signed with {algorithm[:32]!r} are not accepted")
            key = self._key(str(header.get("kid", "")))
            claims: Claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=audience,
                issuer=self._settings.issuer,
                # Times are checked against the hub's clock, below.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False, "verify_nbf": False, "verify_iat": False,
                },
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise TokenRefused(f"the token is no good: {error}") from None
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        try:
            expires, since = float(claims["exp"]), float(claims.get("nbf", 0))
        except (TypeError, ValueError):
            raise TokenRefused("the token's times are not numbers") from None
        if not now < expires + LEEWAY_SECONDS:
            raise TokenRefused("the token has expired: log in again")
        if not now >= since - LEEWAY_SECONDS:
            raise TokenRefused("the token isn't valid yet: check the clocks")

    def _key(self, identifier: str) -> jwt.PyJWK:
        """The issuer's key; an unknown one has the keys fetched again, but not at every guess.

        A token need not name its key where the issuer has just one (OpenID Connect Core, 10.1).
        """
        with self._lock:
            age = self._clock() - self._fetched
            if age >= KEYS_SECONDS or (self._find(identifier) is None and age >= RETRY_SECONDS):
                self._refresh()
            found = self._find(identifier)
        if found is None:
            raise TokenRefused("the token is signed by a key that its issuer doesn't publish")
        return found

    def _find(self, identifier: str) -> jwt.PyJWK | None:
        if not identifier and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(identifier)

    def _refresh(self) -> None:
        self._fetched = self._clock()
        address = self.discover().get("jwks_uri")
        if not isinstance(address, str):
            raise IssuerUnreachable("the issuer names no jwks_uri")
        keys: dict[str, jwt.PyJWK] = {}
        for plain in self._fetch(address).get("keys", []):
            try:
                key = jwt.PyJWK.from_dict(plain)
            except (jwt.PyJWTError, TypeError, AttributeError, ValueError):
                continue
            if plain.get("use", "sig") == "sig":
                keys[str(plain.get("kid", ""))] = key
        self._keys = keys

    def _fetch(self, address: str) -> Claims:
        try:
            answer = self._http.get(address, timeout=TIMEOUT_SECONDS)
            answer.raise_for_status()
            if len(answer.content) > DOCUMENT_BYTES_MAX:
                raise IssuerUnreachable(f"{address} answers more than {DOCUMENT_BYTES_MAX} bytes")
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, RecursionError) as error:
            raise IssuerUnreachable(f"the issuer can't be asked: {address}: {error}") from None
