"""The part of check-docs about overload: that docs/overload.md and docs/operations.md say what the code does.

It reads the Rust as text, so it knows how these files are written: a table whose place it does not find any more is a fault, never a
silent pass. Used by check-docs alone.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OVERLOAD = ROOT / "docs" / "overload.md"
OPERATIONS = ROOT / "docs" / "operations.md"
METRICS = ROOT / "docs" / "metrics.md"
SETTINGS = "shared/src/overload/settings.rs"
CRATES = ["shared", "chassis", "store", "backend", "gateway", "session-manager", "client", "operator", "cli"]
METRIC = r"buslane_(?:session_manager|gateway|backend|store|orders|audit|admin|feed|rpc|process|config|alert|probe|trend|incidents?|notifications|live)_[a-z_]+[a-z]"


class Lost(Exception):
    """A place in the code that is not where it was."""


def text(path: str) -> str:
    return ROOT.joinpath(path).read_text(encoding="utf-8")


def find(pattern: str, source: str, what: str) -> str:
    match = re.search(pattern, source, re.S | re.M)
    if not match:
        raise Lost(what)
    return match[1]


def tables(document: str, heading: str) -> list[list[tuple[int, list[str]]]]:
    """The bodies of all tables under a `## heading`: rows with their line numbers."""
    found, table, inside = [], [], False
    for number, line in enumerate(document.splitlines(), 1):
        if line.startswith("## "):
            inside = line == f"## {heading}"
        if inside and line.startswith("|"):
            table.append((number, [cell.strip() for cell in line.strip().strip("|").split("|")]))
        elif table:
            found.append(table[2:])  # without header and rule
            table = []
    return found + ([table[2:]] if table else [])


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def names(source: str, kind: str) -> dict[str, str]:
    """`Self::Variant => "name"` of the first `fn name` in an `impl`."""
    body = find(rf"^impl {kind} \{{(.*?)^\}}", source, f"impl {kind}")
    body = find(r"fn name\(self\) -> &'static str \{(.*?)\n    \}", body, f"{kind}::name")
    return dict(re.findall(r'Self::(\w+)(?:\([^)]*\)|\s*\{[^}]*\})? => "([^"]+)"', body))


def check_classes(document: str, fault) -> None:
    wanted = find(r"fn the_default_table.*?let expected = \[(.*?)\];", text("shared/src/class.rs"), "the table of classes")
    wanted = [tuple(row.split()) for row in re.findall(r'"([^"]+)"', wanted)]
    found = {}
    for table in tables(document, "Classes"):
        for line, cells in table:
            if len(cells) == 3 and words(cells[0]) and re.fullmatch(r"C\d", cells[1]):
                found[words(cells[0])[0]] = (line, cells[1], cells[2])
    for protocol, foreground, background in wanted:
        line, *here = found.pop(protocol, (1, None, None))
        if here != [foreground, background]:
            fault(OVERLOAD, line, f"protocol `{protocol}` is {foreground} and {background} in shared/src/class.rs")
    for protocol, (line, *_) in found.items():
        fault(OVERLOAD, line, f"there is no protocol `{protocol}`")


def number(literal: str) -> float:
    return float(literal.replace("_", ""))


def struct_defaults(source: str, struct: str) -> dict[str, object]:
    """Field by field; a pair is a guarantee with its ceiling, or a guard with its hard value."""
    body = find(rf"^pub struct {struct} \{{(.*?)^\}}", source, f"struct {struct}")
    renamed = dict((field, key) for key, field in re.findall(r'rename = "(\w+)"\)\]\s+pub (\w+):', body))
    fields = re.findall(r"^    pub (\w+):", body, re.M)
    default = find(rf"^impl Default for {struct} \{{.*?Self \{{(.*?)\}}\n", source, f"the default of {struct}")
    values = {}
    for field, pair, single in re.findall(r"(\w+): (?:(?:share|limits)\(([^)]*)\)|([\d_.]+))", default):
        values[field] = tuple(number(n) for n in pair.split(",")) if pair else number(single)
    if missing := set(fields) - values.keys():
        raise Lost(f"the default of {struct}.{missing.pop()}")
    return {renamed.get(field, field): values[field] for field in fields}


def defaults() -> dict[str, object]:
    """Every key below `[session_manager.overload]`."""
    source = text(SETTINGS)
    body = find(r"^pub struct Settings \{(.*?)^\}", source, "struct Settings")
    found: dict[str, object] = {}
    for field, kind in re.findall(r"^    pub (\w+): ([^,]+(?:<[^>]*>)?),$", body, re.M):
        if kind.startswith("BTreeMap"):
            found[field] = "{}"
        elif kind.startswith("Vec"):
            found[field] = "[]"
        elif kind == "Policy":
            found[field] = '"' + find(r"#\[default\]\s+(\w+),", source, "the default policy").lower() + '"'
        else:
            found.update({f"{field}.{key}": value for key, value in struct_defaults(source, kind).items()})
    return found


def value(cell: str) -> object:
    """A default as it is written in the table."""
    if re.fullmatch(r"[\d.]+", cell):
        return float(cell)
    if pair := re.fullmatch(r"\{ \w+ = ([\d.]+), \w+ = ([\d.]+) \}", cell):
        return (float(pair[1]), float(pair[2]))
    return cell


def check_knobs(document: str, operations: str, fault) -> None:
    wanted = defaults()
    for table in tables(document, "Knobs"):
        for line, cells in table:
            key, shown = words(cells[0])[0], value(words(cells[1])[0])
            if key not in wanted:
                fault(OVERLOAD, line, f"there is no setting `{key}` in {SETTINGS}")
            elif shown != wanted.pop(key):
                fault(OVERLOAD, line, f"the default of `{key}` is not that in {SETTINGS}")
    for key in wanted:
        fault(OVERLOAD, 1, f"setting `{key}` of {SETTINGS} is missing")
    settings = operations.partition("\n## Settings\n")[2].partition("\n## ")[0]
    for key in defaults():
        if f"`{key.rpartition('.')[2]}`" not in settings:
            fault(OPERATIONS, 1, f"setting `{key}` of {SETTINGS} is missing under Settings")


def check_decisions(document: str, fault) -> None:
    wanted = {*names(text("shared/src/overload/lanes/job.rs"), "Why").values()}
    wanted |= {*names(text("session-manager/src/load/census.rs"), "Decision").values()}
    seen = {word for table in tables(document, "Admission") for _, cells in table for word in words(cells[0])}
    for name in wanted ^ seen:
        fault(OVERLOAD, 1, f"decision `{name}` is {'missing' if name in wanted else 'not in the code'}")


def check_first_packets(document: str, fault) -> None:
    screen, door = text("session-manager/src/screen.rs"), text("session-manager/src/door.rs")
    wanted = set()
    for table in ("MARKS", "TURNED_AWAY"):
        wanted |= set(re.findall(r'"([^"]+)"', find(rf"^const {table}: \[&str; \d+\] = \[(.*?)\];", screen, table)))
    wanted |= set(re.findall(r'on_turned_away\("(\w+)"\)', screen + door))
    seen = {w for table in tables(document, "Before the handshake") for _, cells in table for w in words(cells[0])}
    for name in wanted ^ seen:
        fault(OVERLOAD, 1, f"`{name}` of first packets is {'missing' if name in wanted else 'not in the code'}")


def check_bounds(document: str, fault) -> None:
    """How much waits in foreground lanes, and how much answers to the turned away may cost: numbers that stand in sentences."""
    def constant(path: str, name: str) -> float:
        return number(find(rf"^pub const {name}: \w+ = ([\d_.]+);", text(path), name))

    room = constant("shared/src/overload/lanes/room.rs", "FOREGROUND_ROOM") / 1e6
    newest = constant("shared/src/overload/lanes.rs", "NEWEST_FIRST_AFTER") / 1e6
    share = constant("shared/src/overload/logins.rs", "ANSWER_SHARE") * 100
    queues = f"Foreground queues hold {room:g} ms of work, newest first once the oldest has waited {newest:g} ms"
    answers = f"{share:g} % of the processors"
    decision = ROOT / "docs" / "decisions" / "0007-a-slot-is-a-mark.md"
    for path, sentence in ((OVERLOAD, queues), (OVERLOAD, answers), (ROOT / "README.md", answers), (decision, answers)):
        content = document if path == OVERLOAD else path.read_text(encoding="utf-8")
        if sentence not in " ".join(content.split()):
            fault(path, 1, f"it is not said, or differently: {sentence}")


def amount(cell: str) -> float | None:
    match = re.fullmatch(r"([\d.]+)(?: (ms|%|x))?", cell)
    return (float(match[1]) / 100 if match[2] == "%" else float(match[1])) if match else None


def check_signals(document: str, fault) -> None:
    source = text("shared/src/overload/signals.rs") + text("shared/src/overload/signals/signal.rs")
    thresholds = struct_defaults(text(SETTINGS), "Thresholds")
    arms = find(r"^fn configured\(.*?match signal \{(.*?)^    \}", source, "the thresholds of the signals")
    keys = {}
    for variants, key in re.findall(r"((?:Signal::\w+[\s|]*)+) =>[^,]*?thresholds\.(\w+)", arms, re.S):
        keys.update({variant: key for variant in re.findall(r"Signal::(\w+)", variants)})
    wanted = {name: (keys[variant], thresholds[keys[variant]]) for variant, name in names(source, "Signal").items()}
    for table in tables(document, "Signals"):
        for line, cells in table:
            for name in words(cells[0]):
                key, limits = wanted.pop(name, (None, None))
                guard, hard = limits if isinstance(limits, tuple) else (None, limits)
                if key is None:
                    fault(OVERLOAD, line, f"there is no signal `{name}`")
                elif (amount(cells[2]), amount(cells[3])) != (guard, hard):
                    fault(OVERLOAD, line, f"signal `{name}` has guard {guard} and hard {hard} in {SETTINGS}")
                elif key not in words(cells[4]):
                    fault(OVERLOAD, line, f"signal `{name}` has the key `{key}`")
    for name in wanted:
        fault(OVERLOAD, 1, f"signal `{name}` is missing")


def metrics() -> set[str]:
    """Every metric that the programs write. Those of tests have names of their own."""
    found = set()
    for crate in CRATES:
        for path in ROOT.joinpath(crate, "src").rglob("*.rs"):
            if path.stem != "tests":
                found |= set(re.findall(rf'"({METRIC})"', path.read_text(encoding="utf-8")))
    if len(found) < 50:
        raise Lost("the metrics")
    return found


def check_metrics(page: str, fault) -> None:
    wanted = metrics()
    listed = set(re.findall(rf"^\| `({METRIC})` \|", page, re.M))
    for name in sorted(wanted - listed):
        fault(METRICS, 1, f"metric `{name}` is missing: make the page anew with `buslane docs metrics`")
    for path in [*ROOT.joinpath("docs").rglob("*.md"), ROOT / "README.md", ROOT / "ARCHITECTURE.md"]:
        for line, content in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for name in re.findall(METRIC, content):
                if name not in wanted and re.sub(r"_(count|sum|bucket)$", "", name) not in wanted:
                    fault(path, line, f"there is no metric `{name}`")


def check(fault) -> None:
    document, operations = OVERLOAD.read_text(encoding="utf-8"), OPERATIONS.read_text(encoding="utf-8")
    checks = {
        check_classes: (document,),
        check_knobs: (document, operations),
        check_first_packets: (document,),
        check_bounds: (document,),
        check_decisions: (document,),
        check_signals: (document,),
        check_metrics: (METRICS.read_text(encoding="utf-8"),),
    }
    for run, arguments in checks.items():
        try:
            run(*arguments, fault)
        except Lost as lost:
            fault(OVERLOAD, 1, f"{lost} is not found any more in the code: mend scripts/check_overload_docs.py")
