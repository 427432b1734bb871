"""Experiments as people get them wrong: each mistake is named with its line, and with what to do about it."""

from __future__ import annotations

import pytest

from autopilot.spec.chaos.experiment import MeshExperiment
from autopilot.spec.chaos.faults import describe
from autopilot.spec.chaos.scope import describe_scope
from autopilot.spec.errors import SpecError
from autopilot.spec.load import load

HEAD = "apiVersion: meshautopilot.io/v1alpha1\nkind: MeshExperiment\nmetadata: {name: a}\nspec:\n"
GOOD = {
    "target": "{service: x}",
    "scope": "{percentage: 5}",
    "hypothesis": "{probes: [{type: mesh, name: web, tolerance: {min: 0.99}}]}",
    "method": "[{faults: [{fault: {type: abort}}], hold: 30s}]",
}
"""Field of the spec by field, one line each; the first stands in line 5."""


def text(**fields: str) -> str:
    """A good experiment with some fields written otherwise, or, where they are empty, not at all."""
    return HEAD + "".join(f"  {name}: {value}\n" for name, value in (GOOD | fields).items() if value)


def wrong(document: str) -> list[str]:
    """The lines an author is shown."""
    with pytest.raises(SpecError) as caught:
        load(document, "c.yaml")
    return str(caught.value).splitlines()


def experiment(**fields: str) -> MeshExperiment:
    (document,) = load(text(**fields), "c.yaml")
    assert isinstance(document, MeshExperiment)
    return document


BAD: list[tuple[dict[str, str], str]] = [
    (
        {"hypothesis": "{probes: [{type: htp, name: web}]}"},
        "7:32: spec.hypothesis.probes[0].type: 'htp' is not known (did you mean http?)",
    ),
    ({"hypothesis": "{probes: [{type: http, name: web}]}"}, "7:25: spec.hypothesis.probes[0].url: is missing"),
    (
        {"hypothesis": "{probes: [{type: http, name: web, url: 'ftp://x'}]}"},
        "7:54: spec.hypothesis.probes[0].url: 'ftp://x' is not an address: http://host:port/path",
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: {}}]}"},
        "7:60: spec.hypothesis.probes[0].tolerance: has no condition; write equals, oneOf, min, max, regex or contains",
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: {min: 2, max: 1}}]}"},
        "7:60: spec.hypothesis.probes[0].tolerance: min 2 is above max 1, so no value could pass",
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: {regex: '('}}]}"},
        (
            "7:68: spec.hypothesis.probes[0].tolerance.regex: is not a valid Python regular expression: missing ), "
            "unterminated subpattern at position 0"
        ),
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: {jsonpath: status.phase}}]}"},
        "7:60: spec.hypothesis.probes[0].tolerance: has no condition; write equals, oneOf, min, max, regex or contains",
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: {min: true}}]}"},
        "7:66: spec.hypothesis.probes[0].tolerance.min: expects a number, got true",
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: {jsonpath: 'a..b', equals: 1}}]}"},
        (
            "7:71: spec.hypothesis.probes[0].tolerance.jsonpath: 'a..b' is not a path to one value: "
            "status.phase, items[0].name, conditions[type=Ready].status"
        ),
    ),
    (
        {"hypothesis": "{probes: [{type: mesh, name: web, tolerance: 5}]}"},
        "7:60: spec.hypothesis.probes[0].tolerance: expects fields (`name: value`), got 5",
    ),
    (
        {"hypothesis": "{probes: [{type: kubernetes, name: p, apiVersion: v1, kind: Pod}]}"},
        "7:25: spec.hypothesis.probes[0]: needs object (its name) or selector",
    ),
    (
        {
            "hypothesis": (
                "{probes: [{type: kubernetes, name: p, apiVersion: v1, kind: Pod, object: x, absent: true, "
                "tolerance: {min: 1}}]}"
            )
        },
        "7:116: spec.hypothesis.probes[0].tolerance: checks an object that must not exist (leave one of them out)",
    ),
    (
        {"hypothesis": "{probes: [{type: process, name: p, command: ls}]}"},
        "7:59: spec.hypothesis.probes[0].command: expects a list (`- …`), got 'ls'",
    ),
    (
        {"hypothesis": "{probes: [{type: python, name: p, function: os.system, tolerance: {equals: 1}}]}"},
        "7:59: spec.hypothesis.probes[0].function: 'os.system' is not a function: package.module:function",
    ),
    ({"hypothesis": "{probes: []}"}, "7:24: spec.hypothesis.probes: needs at least 1 entry"),
    (
        {"hypothesis": "{probes: [{type: tcp, name: web, address: 'h:1'}, {type: tcp, name: web, address: 'h:2'}]}"},
        "7:83: spec.hypothesis.probes[1].name: another probe is called 'web' (give each probe its own name)",
    ),
    (
        {"abort": "[{type: tcp, name: web, address: 'h:1'}]"},
        "9:29: spec.abort[0].name: another probe is called 'web' (give each probe its own name)",
    ),
    (
        {"scope": "{}"},
        (
            "6:10: spec.scope: matches every request; write percentage (100 if all is meant), users, headers, "
            "cookie, path, method, rule, source or arm"
        ),
    ),
    (
        {"scope": "{headers: {}}"},
        (
            "6:10: spec.scope: matches every request; write percentage (100 if all is meant), users, headers, "
            "cookie, path, method, rule, source or arm"
        ),
    ),
    (
        {"scope": "{view: policy}"},
        (
            "6:10: spec.scope: matches every request; write percentage (100 if all is meant), users, headers, "
            "cookie, path, method, rule, source or arm"
        ),
    ),
    ({"scope": "{percentage: 0}"}, "6:23: spec.scope.percentage: must be above 0, is 0"),
    ({"scope": "{percentage: 101}"}, "6:23: spec.scope.percentage: must be at most 100, is 101"),
    (
        {"scope": "{percentage: some}"},
        "6:23: spec.scope.percentage: 'some' is not a percentage; write for instance 10 or 12.5%",
    ),
    (
        {"scope": "{cookie: {name: id, value: 'a;b'}}"},
        "6:37: spec.scope.cookie.value: 'a;b' is not the value of a cookie: letters, digits and _.~+/=%-",
    ),
    ({"scope": "{cookie: {name: 'a b'}}"}, "6:26: spec.scope.cookie.name: 'a b' is not the name of a cookie"),
    (
        {"scope": "{headers: {x: {exact: a, prefix: b}}}"},
        "6:24: spec.scope.headers.x: has exact, prefix; write one of exact, prefix, regex and present",
    ),
    (
        {"scope": "{headers: {x: {}}}"},
        "6:24: spec.scope.headers.x: has no match; write one of exact, prefix, regex and present",
    ),
    (
        {"scope": "{headers: {x-user: {exact: a}, X-User: {exact: b}}}"},
        "6:49: spec.scope.headers.X-User: is written twice: capitals make no difference (write it once)",
    ),
    ({"scope": "{headers: {x: a}}"}, "6:24: spec.scope.headers.x: expects fields (`name: value`), got 'a'"),
    (
        {"scope": "{headers: {'x:': {exact: a}}}"},
        "6:21: spec.scope.headers[\"x:\"]: 'x:' is not the name of a header, without a colon",
    ),
    (
        {"scope": "{path: {exact: '/a?b=c'}}"},
        (
            "6:25: spec.scope.path.exact: '/a?b=c' is not a path as requests have it: begins with /, other characters "
            "percent-encoded, without a query"
        ),
    ),
    (
        {"scope": "{path: {prefix: /}}"},
        (
            "6:26: spec.scope.path.prefix: '/' is not a path as requests have it: begins with /, other characters "
            "percent-encoded, without a query, and longer than /, which every path begins with"
        ),
    ),
    ({"scope": "{path: {}}"}, "6:17: spec.scope.path: has no match; write one of exact, prefix and regex"),
    (
        {"scope": "{path: {exact: /a, regex: /a}}"},
        "6:17: spec.scope.path: has exact, regex; write one of exact, prefix and regex",
    ),
    (
        {"scope": "{method: get}"},
        "6:19: spec.scope.method: 'get' is not an HTTP method in capitals, for instance POST",
    ),
    ({"scope": "{users: {percentage: 5}}"}, "6:18: spec.scope.users: write what tells users apart: header or cookie"),
    (
        {"scope": "{users: {percentage: 5, header: a, cookie: b}}"},
        "6:18: spec.scope.users: write what tells users apart: header or cookie",
    ),
    ({"scope": "{users: {percentage: 0, header: a}}"}, "6:31: spec.scope.users.percentage: must be above 0, is 0"),
    (
        {"scope": "{source: {}}"},
        "6:19: spec.scope.source: names no caller; write service (an edge of the mesh) or proxy",
    ),
    (
        {"scope": "{source: {arm: v1}}"},
        "6:19: spec.scope.source: names no caller; write service (an edge of the mesh) or proxy",
    ),
    (
        {"scope": "{source: {service: a, proxy: b}}"},
        "6:19: spec.scope.source: names a service and a proxy; write one of them",
    ),
    (
        {"scope": "{source: {proxy: b, arm: v1}}"},
        "6:35: spec.scope.source.arm: names a version without its service (write service too)",
    ),
    ({"scope": ""}, "7:22: spec.method[0].faults[0]: has no scope (write scope here, or spec.scope for all)"),
    (
        {"method": "[{faults: [{fault: {type: dely}}]}]"},
        "8:37: spec.method[0].faults[0].fault.type: 'dely' is not known (did you mean delay?)",
    ),
    ({"method": "[{faults: [{fault: {type: delay}}]}]"}, "8:23: spec.method[0].faults[0].fault.delay: is missing"),
    (
        {"method": "[{faults: [{fault: {type: delay, delay: 1s, jitter: 1s}}]}]"},
        (
            "8:63: spec.method[0].faults[0].fault.jitter: is not below delay, so some delays would "
            "be negative (write a smaller jitter)"
        ),
    ),
    (
        {"method": "[{faults: [{fault: {type: delay, delay: 0}}]}]"},
        "8:51: spec.method[0].faults[0].fault.delay: must be at least 0.001, is 0",
    ),
    (
        {"method": "[{faults: [{fault: {type: abort, status: 200}}]}]"},
        "8:52: spec.method[0].faults[0].fault.status: must be at least 400, is 200",
    ),
    (
        {"method": "[{faults: [{fault: {type: grpcAbort, code: OK}}]}]"},
        (
            "8:54: spec.method[0].faults[0].fault.code: 'OK' is not a gRPC status of a failure; write a number "
            "from 1 to 16, or a name such as UNAVAILABLE"
        ),
    ),
    (
        {"method": "[{faults: [{fault: {type: grpcAbort, code: 0}}]}]"},
        "8:54: spec.method[0].faults[0].fault.code: must be at least 1, is 0",
    ),
    (
        {"method": "[{faults: [{fault: {type: grpcAbort, code: 17}}]}]"},
        "8:54: spec.method[0].faults[0].fault.code: must be at most 16, is 17",
    ),
    (
        {"method": "[{faults: [{fault: {type: eject}}]}]"},
        ("8:30: spec.method[0].faults[0].fault: needs endpoints or zone; to remove all endpoints use type: blackhole"),
    ),
    (
        {"method": "[{faults: [{fault: {type: eject, endpoints: ['h:1'], zone: a}}]}]"},
        "8:70: spec.method[0].faults[0].fault.zone: cannot be combined with endpoints (write one of them)",
    ),
    (
        {"method": "[{faults: [{fault: {type: blackhole, endpoints: ['h:1'], zone: a}}]}]"},
        "8:74: spec.method[0].faults[0].fault.zone: cannot be combined with endpoints (write one of them)",
    ),
    (
        {"method": "[{faults: [{fault: {type: eject, endpoints: [h]}}]}]"},
        "8:56: spec.method[0].faults[0].fault.endpoints[0]: 'h' is not an address: host:port",
    ),
    (
        {"method": "[{faults: [{fault: {type: overflow}}]}]"},
        "8:30: spec.method[0].faults[0].fault: has no limit; write requests, connections or pending",
    ),
    (
        {"method": "[{faults: [{fault: {type: retries, retries: 3}}]}]", "scope": "{arm: v1}"},
        (
            "8:22: spec.method[0].faults[0]: retries concerns whole requests at the caller, before a version is "
            "chosen (leave out arm and view)"
        ),
    ),
    (
        {"method": "[{faults: [{fault: {type: timeout, timeout: 1s}}]}]", "scope": "{percentage: 5, view: policy}"},
        (
            "8:22: spec.method[0].faults[0]: timeout concerns whole requests at the caller, before a version is "
            "chosen (leave out arm and view)"
        ),
    ),
    (
        {"method": "[{faults: [{fault: {type: bandwidth, limit: 0}}]}]"},
        "8:55: spec.method[0].faults[0].fault.limit: must be at least 1, is 0",
    ),
    (
        {"method": "[{faults: [{fault: {type: bandwidth, limit: 1M}}]}]"},
        "8:55: spec.method[0].faults[0].fault.limit: expects a whole number, got '1M'",
    ),
    ({"method": "[]"}, "8:11: spec.method: needs at least 1 entry"),
    (
        {"method": "[{}]"},
        "8:11: spec.method: has no effect: it has no fault and no action (write faults in a step)",
    ),
    (
        {"method": "[{hold: 10s}]"},
        "8:11: spec.method: has no effect: it has no fault and no action (write faults in a step)",
    ),
    (
        {"method": "[{actions: [{type: scale, workload: web, replicas: 1}]}]"},
        "8:47: spec.method[0].actions[0].workload: 'web' is not a workload: deployment/name",
    ),
    (
        {"method": "[{actions: [{type: delete}]}]"},
        "8:30: spec.method[0].actions[0].type: 'delete' is not known (known: podKill, scale, cordon, drain)",
    ),
    ({"deadline": "20s"}, "9:13: spec.deadline: is 20 s, but hold and settle times alone take 32 s (make it longer)"),
    ({"deadline": "30s"}, "9:13: spec.deadline: is 30 s, but hold and settle times alone take 32 s (make it longer)"),
    ({"deadline": "0"}, "9:13: spec.deadline: must be above 0, is 0"),
    ({"tick": "0"}, "9:9: spec.tick: must be at least 0.25, is 0"),
    ({"safety": "{maxTraffic: 0}"}, "9:24: spec.safety.maxTraffic: must be above 0, is 0"),
    ({"safety": "{maxConcurrent: 0}"}, "9:27: spec.safety.maxConcurrent: must be at least 1, is 0"),
    (
        {"safety": "{errorBudget: {objective: 99.9}}"},
        "9:37: spec.safety.errorBudget.objective: 99.9 is above 1; for a percentage write 99.9%",
    ),
    ({"safety": "{maxTrafic: 5}"}, "9:12: spec.safety.maxTrafic: unknown field (did you mean maxTraffic?)"),
    ({"safety": "{service: a/b/c}"}, "9:21: spec.safety.service: 'a/b/c' is not a service: name, or namespace/name"),
    (
        {"schedule": "{cron: 'every day'}"},
        (
            "9:20: spec.schedule.cron: 'every day' has 2 fields; write five fields, for instance '0 10 * * "
            "mon-fri' (minute, hour, day of month, month, day of week)"
        ),
    ),
    (
        {"schedule": "{cron: '0 10 * *'}"},
        (
            "9:20: spec.schedule.cron: '0 10 * *' has 4 fields; write five fields, for instance '0 10 * * "
            "mon-fri' (minute, hour, day of month, month, day of week)"
        ),
    ),
    (
        {"schedule": "{cron: '@daily'}"},
        (
            "9:20: spec.schedule.cron: '@daily' is not a plain cron expression; write five fields, for instance '0 "
            "10 * * mon-fri' (minute, hour, day of month, month, day of week); write the zone in timeZone"
        ),
    ),
    (
        {"schedule": "{cron: '61 * * * *'}"},
        (
            "9:20: spec.schedule.cron: '61 * * * *' never occurs, or is not a cron expression (Bad minute); "
            "write five fields, for instance '0 10 * * mon-fri' (minute, hour, day of month, month, day of week)"
        ),
    ),
    (
        {"schedule": "{cron: '0 0 31 2 *'}"},
        (
            "9:20: spec.schedule.cron: '0 0 31 2 *' never occurs, or is not a cron expression (Bad day-of-month); "
            "write five fields, for instance '0 10 * * mon-fri' (minute, hour, day of month, month, day of week)"
        ),
    ),
    (
        {"schedule": "{cron: '0 0 1 * mon'}"},
        (
            "9:20: spec.schedule.cron: '0 0 1 * mon' has both a day of month and a day of week, which some "
            "crons combine with or and some with and; write * for one of them, and use windows for the rest"
        ),
    ),
    ({"schedule": "{}"}, "9:3: spec.schedule.cron: is missing"),
    (
        {"schedule": "{cron: '0 10 * * *', timeZone: Europe/Berln}"},
        "9:44: spec.schedule.timeZone: 'Europe/Berln' is not a time zone; write for instance Europe/Berlin or UTC",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', windows: [{start: '17:00', end: '09:00'}]}"},
        "9:66: spec.schedule.windows[0].end: is 09:00, not after 17:00 (split it at midnight)",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', windows: [{start: 9:00}]}"},
        "9:52: spec.schedule.windows[0].start: '9:00' is not a time of day: 09:00",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', windows: [{start: '9:00'}]}"},
        "9:52: spec.schedule.windows[0].start: '9:00' is not a time of day: 09:00",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', windows: [{days: [monday]}]}"},
        "9:52: spec.schedule.windows[0].days[0]: 'monday' is not known; write mon, tue, wed, thu, fri, sat or sun",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', windows: [{days: []}]}"},
        "9:51: spec.schedule.windows[0].days: needs at least 1 entry",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', freeze: [{start: 2026-12-24, end: 2026-12-20}]}"},
        "9:68: spec.schedule.freeze[0].end: 2026-12-20 is before 2026-12-24",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', freeze: [{start: 2026-12-24}]}"},
        "9:43: spec.schedule.freeze[0].end: is missing",
    ),
    (
        {"schedule": "{cron: '0 10 * * *', overlap: wait}"},
        "9:43: spec.schedule.overlap: 'wait' is not known; write skip, queue or cancelOther",
    ),
    ({"target": "{}"}, "5:3: spec.target.service: is missing"),
    ({"hypothesis": ""}, "4:1: spec.hypothesis: is missing"),
    ({"title": "[a]"}, "9:10: spec.title: expects text, got a list"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_each_mistake_is_named_with_its_line(fields: dict[str, str], line: str) -> None:
    assert wrong(text(**fields)) == [f"c.yaml:{line}"]


@pytest.mark.parametrize(
    ("fields", "place", "said"),
    [
        ({"hypothesis": "{probes: [{name: web}]}"}, "7:25: spec.hypothesis.probes[0]", "needs type"),
        ({"scope": "{headers: {x: {present: false}}}"}, "6:34: spec.scope.headers.x.present", "is not known"),
        (
            {"method": "[{actions: [{type: podKill, reversible: true}]}]"},
            "8:51: spec.method[0].actions[0].reversible",
            "is not known",
        ),
        (
            {"hypothesis": "{probes: [{type: mesh, name: w, tolerance: {equals: [1]}}]}"},
            "7:67: spec.hypothesis.probes[0].tolerance.equals",
            "got a list",
        ),
        (
            {"hypothesis": "{probes: [{type: mesh, name: w, tolerance: {oneOf: [true]}}]}"},
            "7:67: spec.hypothesis.probes[0].tolerance.oneOf[0]",
            "got true",
        ),
        (
            {"schedule": "{cron: '0 10 * * *', freeze: [{start: christmas, end: 2026-12-20}]}"},
            "9:51: spec.schedule.freeze[0].start",
            "date",
        ),
        ({"method": "[{faults: [{type: abort}]}]"}, "8:22: spec.method[0].faults[0].fault", "is missing"),
    ],
)
def test_other_mistakes_are_named_with_their_place(fields: dict[str, str], place: str, said: str) -> None:
    first = wrong(text(**fields))[0]
    assert first.startswith(f"c.yaml:{place}: ")
    assert said in first


def test_headers_are_read_in_small_letters_and_codes_by_name() -> None:
    read = experiment(
        scope="{headers: {End-User: {exact: a}}}", method="[{faults: [{fault: {type: grpcAbort, code: unavailable}}]}]"
    ).spec
    ((number, fault, scope),) = read.injections
    assert scope is not None
    assert (number, describe(fault), describe_scope(scope)) == (1, "abort with gRPC status 14", "end-user exact a")
    assert scope.narrowed


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("{path: {prefix: /api}, method: POST}", "method POST, path prefix /api"),
        ("{path: {exact: /}}", "path exact /"),
        ("{rule: 'api v1', percentage: 20}", "20 % of requests, rule api v1"),
    ],
)
def test_paths_methods_and_rules_select_a_number_of_requests_that_nobody_knows(scope: str, said: str) -> None:
    found = experiment(scope=scope).spec.scope
    assert found is not None
    assert describe_scope(found) == said
    assert found.narrowed


@pytest.mark.parametrize("host", ["api.payments.example", "a.b", "x1.y-2.z", "ratings"])
def test_a_target_may_be_a_host(host: str) -> None:
    assert experiment(target=f"{{service: {host}}}").spec.target.service == host


@pytest.mark.parametrize(
    "host", ["API.example", "a..b", ".a", "a.", "-a.b", "*.example", "a/b", "https://a.b", f"{'a' * 60}.com"]
)
def test_what_is_no_host_is_no_target(host: str) -> None:
    (said,) = wrong(text(target=f"{{service: '{host}'}}"))
    assert "spec.target.service: " in said
    assert "the host of a ServiceEntry" in said or "has 64 characters, may have 63" in said


def test_a_partition_needs_no_scope_and_a_step_may_have_its_own() -> None:
    assert experiment(scope="", method="[{faults: [{fault: {type: partition}}]}]").spec.injections[0][2] is None
    own = experiment(method="[{faults: [{fault: {type: reset}, scope: {percentage: 50}}]}]").spec.injections[0][2]
    assert own is not None
    assert own.share == 50


def test_probes_that_run_what_a_file_says_need_consent() -> None:
    assert experiment().spec.needs_consent == ()
    probes = "{probes: [{type: process, name: p, command: [ls]}]}"
    assert experiment(hypothesis=probes).spec.needs_consent == ("process",)


MESH = """apiVersion: meshautopilot.io/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  zones: ZONES
  chaos: CHAOS
  services: [{name: a, arms: {v1: {endpoints: ["h:1", "h:2"]}}, weights: {v1: 100}}]
  proxies: [{name: p, admin: "127.0.0.1:9901", outbound: [{name: a, address: "10.0.0.1:80", services: [default/a]}]}]
"""


def mesh(zones: str = "{}", chaos: str = "{}") -> str:
    return MESH.replace("ZONES", zones).replace("CHAOS", chaos)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (mesh('{a: ["h:9"]}', "{}"), "5:15: spec.zones.a[0]: 'h:9' is not an endpoint of any service"),
        (mesh('{a: ["h:1"], b: ["h:1"]}', "{}"), "5:27: spec.zones.b[0]: 'h:1' is also in a"),
        (mesh('{a: ["h"]}', "{}"), "5:15: spec.zones.a[0]: 'h' is not an address: host:port"),
        (
            mesh('{A_1: ["h:1"]}', "{}"),
            (
                "5:11: spec.zones.A_1: 'A_1' is not a name: lower-case letters, digits and dashes, at most 63, with "
                "a letter or digit at both ends"
            ),
        ),
        (mesh("{}", "{maxTraffic: 0}"), "6:23: spec.chaos.maxTraffic: must be above 0, is 0"),
        (mesh("{}", "{maxTraffic: 101}"), "6:23: spec.chaos.maxTraffic: must be at most 100, is 101"),
        (mesh("{}", "{maxTrafic: 5}"), "6:11: spec.chaos.maxTrafic: unknown field (did you mean maxTraffic?)"),
        (mesh("{}", "{maxConcurrent: -1}"), "6:26: spec.chaos.maxConcurrent: must be at least 0, is -1"),
        (mesh("{}", "{maxFailures: many}"), "6:24: spec.chaos.maxFailures: expects a whole number, got 'many'"),
        (mesh("{}", "{irreversible: maybe}"), "6:25: spec.chaos.irreversible: expects true or false, got 'maybe'"),
        (
            mesh("{}", "{protected: kube-system}"),
            "6:22: spec.chaos.protected: expects a list (`- …`), got 'kube-system'",
        ),
        (
            mesh("{}", "{protected: [Kube]}"),
            (
                "6:23: spec.chaos.protected[0]: 'Kube' is not a name: lower-case letters, digits and dashes, at most "
                "63, with a letter or digit at both ends"
            ),
        ),
        (
            mesh("{}", "{freeze: [{start: 2026-12-26, end: 2026-12-24}]}"),
            "6:45: spec.chaos.freeze[0].end: 2026-12-24 is before 2026-12-26",
        ),
    ],
)
def test_mistakes_in_the_mesh_file_are_named(document: str, line: str) -> None:
    assert wrong(document) == [f"c.yaml:{line}"]


def test_a_mesh_with_zones_and_ceilings_is_read() -> None:
    assert load(mesh('{a: ["h:1"], b: ["h:2"]}', "{maxConcurrent: 0, freeze: [{start: 2026-12-24, end: 2026-12-26}]}"))
