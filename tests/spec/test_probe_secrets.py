"""Headers and URLs of probes: credentials are refused there, and references to them are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from autopilot.spec.chaos.experiment import MeshExperiment
from autopilot.spec.chaos.probes import HttpProbe, Probe, secrets_of
from autopilot.spec.errors import SpecError
from autopilot.spec.input_safety.credentials import carries_a_credential, credential_in_url
from autopilot.spec.load import load
from autopilot.spec.secret_ref import SecretRef, SecretText, described
from tests.spec.test_credentials import SECRETS

EXPERIMENT = """
apiVersion: meshautopilot.io/v1alpha1
kind: MeshExperiment
metadata: {{name: a, namespace: shop}}
spec:
  target: {{service: reviews}}
  scope: {{percentage: 5}}
  method: [{{hold: 1s, faults: [{{fault: {{type: delay, delay: 100ms}}}}]}}]
  hypothesis:
    probes: [{{type: http, name: first, url: "http://a/"}}]
  abort:
    - {{type: http, name: shop, url: "{url}", headers: {{{headers}}}}}
"""
ROOT = Path(__file__).parents[2]
PROBE: TypeAdapter[Probe] = TypeAdapter(Probe)


def read(headers: str = "", url: str = "http://shop/") -> HttpProbe:
    (document,) = load(EXPERIMENT.format(headers=headers, url=url))
    assert isinstance(document, MeshExperiment)
    (probe,) = document.spec.abort
    assert isinstance(probe, HttpProbe)
    return probe


def refused(headers: str = "", url: str = "http://shop/") -> str:
    with pytest.raises(SpecError) as caught:
        read(headers, url)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "proxy-authorization", "x-original-authorization", "authorization-bin",
        "cookie",
        "Set-Cookie", "x-api-key", "api-key", "apikey", "X-ApiKey", "ocp-apim-subscription-key", "x-functions-key",
        "x-auth-token", "x-auth-user", "X_AUTH_KEY", "private-token", "x-vault-token", "x-mytoken", "client-secret",
        "x-webhook-secret", "x-db-password", "x-amz-security-token", "x-goog-iap-jwt", "dpop", "x-access-key",
    ],
)  # fmt: skip
def test_a_header_that_carries_a_credential_takes_a_reference_only(name: str) -> None:
    assert carries_a_credential(name)
    said = refused(f"{name}: hunter2x")
    assert f"spec.abort[0].headers.{name}: must not be written here: a header of this name carries a credential" in (
        said.replace('["', ".").replace('"]', "")
    )
    assert 'write a reference, which the worker resolves: {prefix: "Bearer ", secretRef: {env: NAME}}' in said
    assert "hunter2x" not in said
    assert secrets_of(read(f"{name}: {{secretRef: {{env: TOKEN}}}}"))


@pytest.mark.parametrize(
    "name",
    [
        "accept", "content-type", "host", "user-agent", "x-user", "end-user", "idempotency-key", "sec-websocket-key",
        "cache-key", "x-request-id", "x-tokenizer", "x-token-count", "x-author", "authority", "traceparent",
        "key", "x-key",
    ],
)  # fmt: skip
def test_other_headers_take_text(name: str) -> None:
    assert read(f"{name}: plain").headers == {name: "plain"}


@pytest.mark.parametrize(
    "value",
    [
        "Bearer abc", "bearer  abc", "Basic YTpi", "Negotiate x", "AWS4-HMAC-SHA256 Credential=a", "eyJhbGci.eyJz",
        "sid=1; t=eyJhbGciOiJub25lIn0.e30.", *(value for kind, value in SECRETS.items() if "private" not in kind),
    ],
)  # fmt: skip
def test_a_value_that_is_plainly_a_credential_is_refused_in_any_header(value: str) -> None:
    said = refused(f"x-debug: '{value}'")
    assert "headers.x-debug: looks like a credential (write a reference" in said
    assert value[8:] not in said
    assert "looks like" in refused(f"authorization: {{prefix: '{value[:64]}', secretRef: {{env: TOKEN}}}}")


@pytest.mark.parametrize("value", ["bearer", "Basic", "the bearer of news", "eyJust", "application/json", "eyJhbGci"])
def test_other_values_are_let_through(value: str) -> None:
    assert read(f"x-debug: '{value}'").headers == {"x-debug": value}


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("https://admin:hunter2x@shop/", "the user or password before the host"),
        ("https://hunter2x@shop/", "the user or password before the host"),
        ("http://shop/?token=hunter2x", "the parameter token"),
        ("http://shop/?q=1&api_key=hunter2x", "the parameter api_key"),
        ("http://shop/?q=1;accessToken=hunter2x", "the parameter accessToken"),
        ("http://shop/?%61pi-key=hunter2x", "the parameter api-key"),
        ("http://shop/?X-Amz-Signature=hunter2x", "the parameter X-Amz-Signature"),
        ("http://shop/?sig=hunter2x", "the parameter sig"),
        ("http://shop/?password=hunter2x#top", "the parameter password"),
        ("http://shop/?q=eyJhbGciOiJub25lIn0.hunter2x", "the parameter q"),
    ],
)
def test_credentials_in_urls_of_probes_are_refused(url: str, part: str) -> None:
    said = refused(url=url)
    assert f"spec.abort[0].url: holds a credential: {part} (write a reference" in said
    assert "headers: {authorization:" in said
    assert "hunter2x" not in said


@pytest.mark.parametrize(
    "url",
    [
        "http://shop/?page=2&sort=token",
        "http://shop/tokens/1?token=",
        "http://shop/?key=a",
        "http://[::1]:80/?monkey=a",
    ],
)
def test_other_urls_are_let_through(url: str) -> None:
    assert not credential_in_url(url)
    assert read(url=url).url == url


@pytest.mark.parametrize(
    ("written", "ref", "said"),
    [
        ("{kubernetes: {name: checkout-token, key: token}}", {"kubernetes": {"name": "checkout-token", "key": "token"}},
         "key token of Secret shop/checkout-token"),
        ("{kubernetes: {name: a.b, key: .c, namespace: d}}",
         {"kubernetes": {"name": "a.b", "key": ".c", "namespace": "d"}}, "key .c of Secret d/a.b"),
        ("{file: /run/secrets/token}", {"file": "/run/secrets/token"}, "file /run/secrets/token"),
        ("{env: CHECKOUT_TOKEN}", {"env": "CHECKOUT_TOKEN"}, "environment variable CHECKOUT_TOKEN"),
    ],
)  # fmt: skip
def test_references_are_read_travel_and_are_described(written: str, ref: dict[str, Any], said: str) -> None:
    probe = read(f"authorization: {{prefix: 'Bearer ', secretRef: {written}}}, accept: text/plain")
    wanted = SecretText(prefix="Bearer ", secret_ref=SecretRef.model_validate(ref))
    assert probe.headers == {"authorization": wanted, "accept": "text/plain"}
    assert secrets_of(probe) == {"authorization": wanted}
    assert PROBE.validate_json(PROBE.dump_json(probe)) == probe
    assert described(wanted.secret_ref, "shop") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "{secretRef: {}}",
            "headers.a.secretRef: names no place of a secret, or several; write one of kubernetes, file",
        ),
        ("{secretRef: {env: A, file: /b}}", "names no place of a secret, or several"),
        ("{secretRef: {enw: A}}", "headers.a.secretRef.enw: unknown field (did you mean env?)"),
        ("{secretRef: {env: a b}}", "headers.a.secretRef.env: 'a b' is not the name of a variable"),
        ("{secretRef: {file: token}}", "'token' is not the path of a file from the root: /run/secrets/token"),
        ("{secretRef: {file: /run/../etc/shadow}}", "has . or .. in it; write the path without them"),
        ("{secretRef: {kubernetes: {name: a}}}", "headers.a.secretRef.kubernetes.key: is missing"),
        ("{prefix: 'Bearer '}", "headers.a.secretRef: is missing"),
        ("[b]", "headers.a: expects text, got a list"),
        ("3", 'headers.a: expects text, got 3 (write "3", in quotes)'),
    ],
)
def test_a_mistake_in_a_reference_is_told_with_its_place(value: str, said: str) -> None:
    assert said in refused(f"a: {value}")


def test_the_permissions_that_are_shipped_are_those_of_the_example() -> None:
    (experiment,) = load(ROOT / "examples" / "chaos-secret.yaml")
    assert isinstance(experiment, MeshExperiment)
    (text,) = [text for probe in experiment.spec.probes for text in secrets_of(probe).values()]
    role, binding = YAML(typ="safe").load_all((ROOT / "deploy" / "rbac-secrets.yaml").read_text())
    assert text.secret_ref.kubernetes
    (rule,) = role["rules"]
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", experiment.metadata.namespace)
    assert (rule["resourceNames"], rule["verbs"]) == ([text.secret_ref.kubernetes.name], ["get"])
    assert (binding["kind"], binding["roleRef"]["name"]) == ("RoleBinding", role["metadata"]["name"])


def test_a_running_experiment_of_an_earlier_release_keeps_its_headers() -> None:
    """What was written into a history before credentials were refused is still read from it."""
    probe = PROBE.validate_python(
        {"type": "http", "name": "a", "url": "http://a:b@shop/?token=c", "headers": {"authorization": "Bearer abc"}}
    )
    assert isinstance(probe, HttpProbe)
    assert probe.headers == {"authorization": "Bearer abc"}
