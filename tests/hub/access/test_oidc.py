"""Logins of an identity provider: a real local issuer, and every way to be refused."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from muster_hub.settings.config import Oidc
from support.hub_kit import API, is_problem, open_kit


class Issuer:
    """Discovery and JWKS over HTTP, and tokens as an issuer signs them."""

    def __init__(self) -> None:
        self.keys = {"k1": rsa.generate_private_key(65537, 2048)}
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body = json.dumps(issuer.document(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def document(self, path: str) -> dict:
        if path == "/keys":
            return {"keys": [self.jwk(name) for name in self.keys]}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def jwk(self, name: str) -> dict:
        key = self.keys[name].public_key()
        ours = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPublicKey) else None
        made = (ours or jwt.algorithms.ECAlgorithm).to_jwk(key, as_dict=True)
        return {**made, "kid": name, "use": "sig"}

    def token(self, now: float, key="k1", algorithm="RS256", signer=None, **claims) -> str:
        body = {
            "iss": self.url, "aud": "muster", "sub": "1", "email": "ada@example.com",
            "email_verified": True, "exp": now + 300, **claims,
        }  # fmt: skip
        return jwt.encode(
            body,
            key_of(signer, algorithm, self.keys[key]),
            algorithm=algorithm,
            headers={"kid": key},
        )

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def key_of(signer, algorithm, own):
    return None if algorithm == "none" else signer or own


@pytest.fixture
def issuer():
    made = Issuer()
    yield made
    made.close()


@pytest.fixture
def kit(tmp_path, issuer):
    settings = Oidc(issuer=issuer.url, groups={"plant": "operator"})
    made = open_kit(tmp_path, settings={"oidc": settings})
    yield made
    made.close()


def who(kit, token):
    return kit.http.get(f"{API}/whoami", headers={"Authorization": f"Bearer {token}"})


def test_a_person_has_the_role_that_an_admin_gave(kit, issuer):
    token = issuer.token(kit.clock())
    assert "no role" in is_problem(who(kit, token), 403, "forbidden")
    body = {"role": "releaser", "models": ["digits"]}
    kit.http.put(f"{API}/users/ada@example.com", json=body, headers=kit.as_("admin"))
    person = who(kit, token).json()
    assert (person["kind"], person["name"]) == ("person", "ada@example.com")
    assert (person["role"], person["models"]) == ("releaser", ["digits"])
    kit.http.delete(f"{API}/users/ada@example.com", headers=kit.as_("admin"))
    is_problem(who(kit, token), 403, "forbidden")


def test_a_member_of_a_group_has_the_group_s_role(kit, issuer):
    token = issuer.token(kit.clock(), groups=["night", "plant"])
    assert who(kit, token).json()["role"] == "operator"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"email": None},
        {"email_verified": False},
        {"exp": 1_000_000_000},
        {"nbf": 4_000_000_000},
        {"exp": "soon"},
        {"exp": None},
    ],
)
def test_a_token_that_says_something_wrong_is_refused(kit, issuer, claims):
    body = {name: value for name, value in claims.items() if value is not None}
    left_out = {name for name, value in claims.items() if value is None}
    whole = jwt.decode(issuer.token(kit.clock()), options={"verify_signature": False})
    kept = {name: value for name, value in (whole | body).items() if name not in left_out}
    token = jwt.encode(kept, issuer.keys["k1"], algorithm="RS256", headers={"kid": "k1"})
    is_problem(who(kit, token), 401, "unauthenticated")


def test_a_token_signed_by_anyone_else_is_refused(kit, issuer):
    now, stranger = kit.clock(), rsa.generate_private_key(65537, 2048)
    is_problem(who(kit, issuer.token(now, signer=stranger)), 401, "unauthenticated")
    unsigned = issuer.token(now, algorithm="none")
    assert "none" in is_problem(who(kit, unsigned), 401, "unauthenticated")
    shared = issuer.token(now, algorithm="HS256", signer="x" * 64)
    assert "HS256" in is_problem(who(kit, shared), 401, "unauthenticated")


def unnamed(kit, issuer) -> str:
    """A good token that doesn't say which key signed it."""
    token = issuer.token(kit.clock(), groups=["plant"])
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, issuer.keys["k1"], algorithm="RS256")


def test_a_token_need_not_name_its_key_where_there_is_but_one(kit, issuer):
    assert who(kit, unnamed(kit, issuer)).status_code == 200
    issuer.keys["k2"] = ec.generate_private_key(ec.SECP256R1())
    kit.clock.now += 3600
    is_problem(who(kit, unnamed(kit, issuer)), 401, "unauthenticated")


def test_new_keys_are_fetched_but_not_at_every_guess(kit, issuer):
    now = kit.clock()
    assert who(kit, issuer.token(now, groups=["plant"])).status_code == 200
    issuer.keys["k2"] = ec.generate_private_key(ec.SECP256R1())
    fresh = issuer.token(now, key="k2", algorithm="ES256", groups=["plant"])
    before = len(issuer.asked)
    for _ in range(5):
        is_problem(who(kit, fresh), 401, "unauthenticated")
    assert len(issuer.asked) == before
    kit.clock.now += 10
    assert who(kit, fresh).status_code == 200


def test_an_issuer_that_is_away_is_said_so_and_api_tokens_still_count(kit, issuer):
    token = issuer.token(kit.clock())
    issuer.server.shutdown()
    issuer.server.server_close()
    is_problem(who(kit, token), 503, "issuer_unreachable")
    headers = kit.as_("viewer")
    assert kit.http.get(f"{API}/whoami", headers=headers).json()["kind"] == "token"
