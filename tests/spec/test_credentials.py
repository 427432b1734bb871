"""Credentials in specs: refused with their place, told where they belong, and never repeated."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from autopilot.spec.canary import MeshCanary
from autopilot.spec.load import load
from tests.spec.attacks import GOOD, annotated, wrong


def joined(*parts: str) -> str:
    """A credential that stands nowhere in this file, so that nobody's scanner cries."""
    return "".join(parts)


SECRETS = {
    "a URL with a user or password in it": joined("https://admin:", "hunter2hunter2@prometheus:9090/"),
    "an Authorization header": joined("Authorization", ": Bearer abcdef0123456789"),
    "a bearer token": joined("use Bear", "er abcdefghijklmnop0123456789"),
    "a basic authorization": joined("Bas", "ic YWRtaW46aHVudGVyMg=="),
    "a private key": joined("-----BEGIN RSA PRIV", "ATE KEY-----MIIEow"),
    "a JSON web token": joined("eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0NTY3ODkwIn0", ".dozjgNryP4J3jVmNHl0w5N"),
    "an AWS access key": joined("AKIA", "IOSFODNN7EXAMPLE"),
    "a GitHub token": joined("ghp_", "16C7e42F292c6912E7710c838347Ae178B4a"),
    "a GitLab token": joined("glpat-", "abcdefghij0123456789"),
    "a Slack token": joined("xoxb-", "123456789012-abcdefghijkl"),
    "a Slack webhook": joined("https://hooks.slack.com/", "services/T00000000/B00000000/abcdefgh"),
    "a Google API key": joined("AIza", "SyA1234567890abcdefghijklmnopqrstuv"),
    "a Stripe key": joined("sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"),
}
LEAK = 8
"""Characters of a secret in a row that no message may have."""


def leaks(secret: str, said: str) -> bool:
    """Whether a part of what is secret is repeated: of a URL what comes before the host."""
    inner = secret.partition("@")[0].removeprefix("https://").removeprefix("Authorization: Bearer ")
    inner = inner.removeprefix("use Bearer ").removeprefix("Basic ").removeprefix("hooks.slack.com/services/")
    inner = inner.removeprefix("-----BEGIN RSA PRIVATE KEY-----")
    return any(inner[start : start + LEAK] in said for start in range(max(1, len(inner) - LEAK + 1)))


@pytest.mark.parametrize("kind", SECRETS)
def test_credentials_are_refused_wherever_they_stand_and_never_repeated(kind: str) -> None:
    secret = SECRETS[kind]
    places = {
        "metadata.annotations.why": annotated(f"'{secret}'"),
        "metadata.labels.why": annotated(f"'{secret}'").replace("annotations", "labels"),
        "spec.analysis.metrics[0].query": GOOD
        + f"  analysis: {{metrics: [{{type: promql, name: q, max: 1, query: '{secret}'}}]}}\n",
        "metadata.name": GOOD.replace("name: a", f"name: '{secret}'"),
        "spec.password": GOOD + f"  password: '{secret}'\n",
        "spec.deadline": GOOD + f"  deadline: '{secret}'\n",
        "spec.steps[0].weight": GOOD + f"  steps: [{{weight: '{secret}'}}]\n",
        "kind": GOOD.replace("kind: MeshCanary", f"kind: '{secret}'"),
    }
    for place, text in places.items():
        said = "\n".join(wrong(text))
        assert f"{place}: looks like {kind} (specs stay in Temporal's history" in said, place
        assert not leaks(secret, said), place
    for text in (GOOD + f"  '{secret}': 1\n", GOOD + f"  x: !<{secret}> 1\n", GOOD + f"  x: *{secret}\n"):
        assert not leaks(secret, "\n".join(wrong(text)))


def test_a_secret_is_named_with_its_place_and_where_it_should_live() -> None:
    (line,) = wrong(annotated(f'"see {SECRETS["a GitHub token"]}"'))
    assert line == (
        "c.yaml:6:10: metadata.annotations.why: looks like a GitHub token (specs stay in Temporal's history for "
        "whoever may look: keep credentials in the environment of the worker, and withdraw this one if it was ever "
        "sent)"
    )


@pytest.mark.parametrize("key", ["password", "ex.io/api-key", "client_secret", "private-key", "db.passwd", "apiKey"])
def test_a_field_that_is_called_after_a_credential_may_hold_none(key: str) -> None:
    lines = wrong(annotated("x").replace("why: x", f"{key}: hunter2"))
    assert any("looks like a credential" in line for line in lines)
    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "https://wiki.example.com/runbooks/canary?page=2#bearer",
        "mail me@example.com or ask @team",
        "the bearer of good news",
        "basic authentication is off",
        "HTTP Basic Authentication or Bearer Authentication",
        "bearer responsibilities-of-the-catalogue-team",
        "Authorization: see the RBAC review",
        'sum(rate(http_requests_total{job="a",authorization=~"basic|bearer"}[5m]))',
        "job:authorization:rate5m > 3",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "0b72f59db69a9062940e7b8bf978c2e21204d60c",
        'kube_secret_info{secret="tls-cert"}',
        "token bucket, password policy, secret sauce",
        "eyJust kidding. not. a. token.",
        "1.2.3.4:9090/metrics@noon",
    ],
)
def test_what_is_no_credential_is_let_through(text: str) -> None:
    (canary,) = load(annotated("'" + text.replace("'", "''") + "'"))
    assert canary.metadata.annotations["why"] == text


def test_an_error_of_the_model_keeps_its_input_to_itself() -> None:
    with pytest.raises(ValidationError) as caught:
        MeshCanary.model_validate({"metadata": {"name": "not a name, but hunter2"}})
    assert "hunter2" not in str(caught.value)
