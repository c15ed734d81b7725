"""The parts of check-deploy that need no tool: that what people import agrees with the code and the documents.

- deploy/prometheus: each metric of a rule is listed in docs/metrics.md or recorded by a rule; each alert has a severity that is known
  and a remedy in docs/operations.md; trends call nobody; each alert is tried in a test.
- the status of the operator's seat: each alert of its catalogue has a remedy in docs/operations.md.
- deploy/grafana: the dashboard has the form that Grafana imports, its panels do not overlap, and it asks for metrics that there are.
- operator/openapi.json: it is valid OpenAPI 3.1, where the validator is installed.

`check_deploy.py expressions` writes what the dashboard asks as a file of rules, for promtool to parse. Prints each fault as `file: what is
wrong`; the exit code is 1 if there is any, and 77 if all that could be checked is right and the validator or PyYAML is missing.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy" / "prometheus" / "buslane.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "buslane.json"
OPENAPI = ROOT / "operator" / "openapi.json"
METRIC = r"\bbuslane_[a-z_]+[a-z]\b"
SEVERITIES = {"page", "ticket", "info"}
PANELS = {"row", "timeseries", "state-timeline", "stat"}
GRID_WIDTH = 24
SKIPPED = 77
faults: list[str] = []
missing: list[str] = []


def fault(path: Path, what: str) -> None:
    faults.append(f"{path.relative_to(ROOT)}: {what}")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def listed() -> set[str]:
    """The metrics of docs/metrics.md; a test of the binary compares that page with the code."""
    found = set(re.findall(rf"^\| `({METRIC})` \|", read(ROOT / "docs" / "metrics.md"), re.M))
    if len(found) < 50:
        fault(ROOT / "docs" / "metrics.md", "the tables of metrics are not found any more")
    return found


def known(name: str, metrics: set[str]) -> bool:
    return name in metrics or re.sub(r"_(bucket|count|sum)$", "", name) in metrics


def anchors() -> set[str]:
    """Headings of docs/operations.md as GitHub links to them."""
    headings = re.findall(r"^#{1,6} (.*)$", read(ROOT / "docs" / "operations.md"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_rules(metrics: set[str], remedies: set[str]) -> None:
    try:
        import yaml
    except ImportError:
        missing.append("PyYAML (the rules)")
        return
    groups = yaml.safe_load(read(RULES))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    tests = "".join(read(path) for path in RULES.parent.glob("tests*.yml"))
    trends = {rule["alert"] for group in groups if group["name"] == "buslane_trends" for rule in group["rules"]}
    for rule in rules:
        for name in re.findall(METRIC, rule["expr"]):
            if not known(name, metrics):
                fault(RULES, f"{rule.get('alert') or rule.get('record')}: there is no metric {name}")
        if "alert" not in rule:
            continue
        alert, severity = rule["alert"], rule["labels"].get("severity")
        file, _, anchor = rule["annotations"].get("runbook", "").partition("#")
        if severity not in SEVERITIES:
            fault(RULES, f"{alert}: its severity is none of {', '.join(sorted(SEVERITIES))}")
        if file != "docs/operations.md" or anchor not in remedies:
            fault(RULES, f"{alert}: its runbook leads nowhere: {file}#{anchor}")
        if alert in trends and severity == "page":
            fault(RULES, f"{alert}: an unusual trend calls nobody")
        if f'"{alert}"' not in tests:
            fault(RULES, f"{alert} is tried in no tests*.yml")


def check_catalogue(remedies: set[str]) -> None:
    path = ROOT / "operator" / "src" / "status" / "alerts.rs"
    named = set(re.findall(r'"#([a-z-]+)"', read(path)))
    if not named:
        fault(path, "the headings are not found any more")
    for anchor in sorted(named - remedies):
        fault(path, f"docs/operations.md has no section #{anchor}")


def cells(grid: dict[str, int]) -> set[tuple[int, int]]:
    columns = range(grid["x"], grid["x"] + grid["w"])
    return {(x, y) for x in columns for y in range(grid["y"], grid["y"] + grid["h"])}


def expressions(dashboard: dict) -> list[str]:
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return found + [entry["expr"] for entry in dashboard["annotations"]["list"] if "expr" in entry]


def check_dashboard(metrics: set[str]) -> None:
    dashboard = json.loads(read(DASHBOARD))
    if not (dashboard["title"] and re.fullmatch(r"[\w-]{1,40}", dashboard["uid"]) and dashboard["schemaVersion"] >= 36):
        fault(DASHBOARD, "title, uid and schemaVersion are what an import needs")
    if dashboard.get("id") is not None:
        fault(DASHBOARD, "an id is of one Grafana: take it out")
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    ids, taken = set(), set()
    for panel in dashboard["panels"]:
        title, grid = panel["title"], panel["gridPos"]
        if panel["id"] in ids or panel["type"] not in PANELS:
            fault(DASHBOARD, f"{title}: its id is not its own, or its type is not known here")
        ids.add(panel["id"])
        if grid["x"] + grid["w"] > GRID_WIDTH or taken & cells(grid):
            fault(DASHBOARD, f"{title}: it lies over another panel, or over the edge")
        taken |= cells(grid)
        if panel["type"] == "row":
            continue
        refs = [target["refId"] for target in panel["targets"]]
        if not refs or len(refs) != len(set(refs)) or not panel["description"]:
            fault(DASHBOARD, f"{title}: it asks nothing, asks twice under one name, or does not say what it shows")
        if any(part["datasource"]["uid"] != "${datasource}" for part in [panel, *panel["targets"]]):
            fault(DASHBOARD, f"{title}: its data source is not the one that is chosen")
    for expression in expressions(dashboard):
        for name in re.findall(METRIC, expression):
            if not known(name, metrics):
                fault(DASHBOARD, f"there is no metric {name}")
        for name in re.findall(r"\$(\w+)", expression):
            if name not in variables | {"__rate_interval"}:
                fault(DASHBOARD, f"there is no variable ${name}")


def check_openapi() -> None:
    try:
        from openapi_spec_validator import OpenAPIV31SpecValidator
    except ImportError:
        missing.append("openapi-spec-validator (the OpenAPI document)")
        return
    for error in OpenAPIV31SpecValidator(json.loads(read(OPENAPI))).iter_errors():
        fault(OPENAPI, f"{'/'.join(map(str, error.path))}: {error.message[:200]}")


def print_expressions() -> None:
    """Rules that ask what the dashboard asks, in JSON, which is YAML."""
    rules = []
    for number, expression in enumerate(expressions(json.loads(read(DASHBOARD)))):
        plain = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        rules.append({"record": f"dashboard:{number}", "expr": plain})
    print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))


def main() -> int:
    if sys.argv[1:] == ["expressions"]:
        print_expressions()
        return 0
    metrics, remedies = listed(), anchors()
    check_rules(metrics, remedies)
    check_catalogue(remedies)
    check_dashboard(metrics)
    check_openapi()
    if faults:
        print("\n".join(faults))
        return 1
    if missing:
        print(f"not installed: {', '.join(missing)}")
        return SKIPPED
    print("rules, dashboard and OpenAPI document agree with the code and the documents")
    return 0


if __name__ == "__main__":
    sys.exit(main())
