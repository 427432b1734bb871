"""How a mesh's file says where Prometheus is: credentials are references, and what is written there is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from autopilot.spec.cluster import ClusterMesh
from autopilot.spec.errors import SpecError
from autopilot.spec.load import load
from autopilot.spec.mesh import Mesh
from autopilot.spec.prometheus import PrometheusSpec

CLUSTER = """
apiVersion: meshautopilot.io/v1alpha1
kind: Mesh
metadata: {{name: production}}
spec:
  provider: istio
  prometheus: {{{said}}}
"""
PLAIN = """
apiVersion: meshautopilot.io/v1alpha1
kind: Mesh
metadata: {{name: local}}
spec:
  prometheus: {{{said}}}
  services:
    - {{name: a, arms: {{v1: {{endpoints: ["127.0.0.1:1"]}}}}, weights: {{v1: 100}}}}
  proxies:
    - {{name: p, admin: "127.0.0.1:2"}}
"""
ROOT = Path(__file__).parents[2]
TOKEN = "hunter2-hunter2-hunter2"  # noqa: S105 - made up


def read(said: str, document: str = CLUSTER) -> PrometheusSpec:
    (found,) = load(document.format(said=said))
    assert isinstance(found, ClusterMesh | Mesh)
    return found.spec.prometheus


def refused(said: str, document: str = CLUSTER) -> str:
    with pytest.raises(SpecError) as caught:
        read(said, document)
    text = str(caught.value)
    assert TOKEN not in text
    return text


def test_credentials_are_references() -> None:
    found = read(
        'url: "https://mimir.example/prometheus", headers: {X-Scope-OrgID: shop}, '
        "bearerToken: {secretRef: {kubernetes: {name: mimir, key: token}}}, "
        "tls: {ca: {secretRef: {file: /ca.pem}}, certificate: {secretRef: {file: /c}}, key: {secretRef: {file: /k}}}"
    )
    assert found.headers == {"x-scope-orgid": "shop"}
    assert [".".join(map(str, place)) for place in found.secrets] == [
        "bearerToken.secretRef", "tls.ca.secretRef", "tls.certificate.secretRef", "tls.key.secretRef",
    ]  # fmt: skip
    assert found.queries == "auto"
    basic = read("basicAuth: {username: '1234', password: {secretRef: {env: GRAFANA_TOKEN}}}")
    assert basic.basic_auth is not None
    assert basic.basic_auth.username == "1234"


@pytest.mark.parametrize("document", [CLUSTER, PLAIN], ids=["cluster", "plain"])
@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"bearerToken: {TOKEN}", "spec.prometheus.bearerToken: must not be written here: write a reference"),
        (f"bearerToken: {{secretRef: {TOKEN}}}", "spec.prometheus.bearerToken.secretRef"),
        (f"basicAuth: {{username: a, password: {TOKEN}}}", "spec.prometheus.basicAuth.password"),
        (f"headers: {{authorization: 'Bearer {TOKEN}'}}", "a header of this name carries a credential"),
        (f"headers: {{x-api-key: {TOKEN}}}", "write a reference"),
        (f"url: 'https://user:{TOKEN}@store/'", "the user or password before the host"),
        (f"url: 'https://store/?token={TOKEN}'", "the parameter token"),
        ("url: 'ftp://store/'", "http://host:port/path"),
        ("bearerToken: {secretRef: {env: A}}, basicAuth: {username: a, password: {secretRef: {env: B}}}",
         "has bearerToken and basicAuth"),
        ("bearerToken: {secretRef: {env: A}}, headers: {authorization: {secretRef: {env: B}}}",
         "has bearerToken and headers.authorization"),
        ("tls: {key: {secretRef: {file: /k}}}", "needs certificate and key, and certificate is missing"),
        ("headers: {host: other}", "is set by the client"),
        ("basicAuth: {username: 'a:b', password: {secretRef: {env: B}}}", "has a colon"),
        ("verify: false", "verify"),
        ("tls: {insecureSkipVerify: true}", "insecureSkipVerify"),
    ],
)  # fmt: skip
def test_what_is_written_there_or_contradicts_itself_is_refused(document: str, said: str, why: str) -> None:
    assert why in refused(said, document)


def test_a_mesh_outside_a_cluster_has_no_secrets() -> None:
    said = refused("bearerToken: {secretRef: {kubernetes: {name: a, key: b}}}", PLAIN)
    assert "spec.prometheus.bearerToken.secretRef.kubernetes: is a Secret of a cluster" in said
    assert "write file or env" in said


def test_the_permission_is_for_one_secret_and_one_verb() -> None:
    role, binding = YAML(typ="safe").load_all((ROOT / "deploy" / "rbac-prometheus.yaml").read_text())
    (rule,) = role["rules"]
    assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get"])
    assert rule["resourceNames"] == ["prometheus-credentials"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
