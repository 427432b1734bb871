from __future__ import annotations

import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from autopilot.local import install, prometheus_install
from autopilot.local.prometheus import PrometheusCommand, write_config


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds what a test puts there, besides the shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("AUTOPILOT_TOOLS", raising=False)
    monkeypatch.delenv(prometheus_install.VARIABLE, raising=False)
    return folder


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    file.chmod(0o755)


VERSION = "echo 'prometheus, version 9.9.9 (branch: x)'"


def test_one_on_path_is_taken(programs: Path, tmp_path: Path) -> None:
    program(programs, "prometheus", VERSION)
    said: list[str] = []
    found = prometheus_install.ensure(tmp_path / "tools", said.append)
    assert found is not None
    assert (found.version, found.origin) == ("9.9.9", "on PATH")
    assert len(said) == 1


def test_one_that_does_not_run_is_none(programs: Path, tmp_path: Path) -> None:
    program(programs, "prometheus", "exit 1")
    assert prometheus_install.find(tmp_path / "tools") is None


def test_without_any_way_it_says_why_and_goes_on(programs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert prometheus_install.ensure(tmp_path / "tools", said.append) is None
    assert any("apt-get is not installed" in line for line in said)
    assert any("docker is not installed" in line for line in said)
    assert any("go is not installed" in line for line in said)
    assert "no Prometheus" in said[-1]
    assert not (tmp_path / "tools" / "prometheus").exists()
    assert prometheus_install.tried_lately(tmp_path / "tools"), "the next start need not wait for all that again"
    program(programs, "prometheus", VERSION)
    assert prometheus_install.ensure(tmp_path / "tools", said.append) is not None


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """The binary that a fake download gives."""
    program(tmp_path, "fetched", VERSION)
    return tmp_path / "fetched"


def test_debians_package_is_unpacked_with_own_lists_where_the_systems_fail(
    programs: Path, tmp_path: Path, fetched: Path
) -> None:
    only_with_own_lists = f"""echo "$*" >> {tmp_path}/apt
case "$*" in
*Dir::State=*download*) touch prometheus_1_amd64.deb;;
*update*) ;;
*) echo 'E: Unable to locate package prometheus'; exit 100;;
esac"""
    program(programs, "apt-get", only_with_own_lists)
    program(programs, "dpkg-deb", f'mkdir -p "$3/usr/bin"; cp {fetched} "$3/usr/bin/prometheus"')
    program(programs, "docker", "exit 1")
    said: list[str] = []
    found = prometheus_install.ensure(tmp_path / "tools", said.append)
    assert found is not None, said
    assert found.binary == tmp_path / "tools" / "prometheus"
    asked = (tmp_path / "apt").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["prometheus", "update", "prometheus"]
    assert ("APT::Sandbox::User=root" in asked[0]) == (os.geteuid() == 0)


def test_a_step_that_hangs_is_given_up(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_install, "_SHORT", 0.3)
    program(programs, "docker", "sleep 60")
    said: list[str] = []
    assert prometheus_install.ensure(tmp_path / "tools", said.append, build=False) is None
    assert any("docker info took longer than 0.3 s" in line for line in said)


def test_the_binary_is_copied_out_of_the_image(programs: Path, tmp_path: Path, fetched: Path) -> None:
    program(programs, "docker", f'case "$1" in create) echo abc;; cp) cp {fetched} "$3";; esac')
    found = prometheus_install.ensure(tmp_path / "tools", lambda _: None, build=False)
    assert found is not None
    assert found.version == "9.9.9"


def test_install_says_where_it_stands(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(programs, "prometheus", VERSION)
    monkeypatch.setattr("sys.argv", ["install", "--state", str(tmp_path / "state")])
    install.main()
    assert capsys.readouterr().out == "Prometheus 9.9.9: on PATH\n"


def test_configuration_names_every_target(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    write_config(file, proxies={"web-v1": "127.0.0.1:1"}, ours={"worker": "127.0.0.1:2"})
    jobs = YAML(typ="safe").load(file.read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["envoy", "autopilot"]
    assert jobs[0]["static_configs"] == [{"targets": ["127.0.0.1:1"], "labels": {"instance": "web-v1"}}]
    command = PrometheusCommand(Path("/p"), "3", "here").command(config=file, data=tmp_path, port=7)
    assert "--web.listen-address=127.0.0.1:7" in command
