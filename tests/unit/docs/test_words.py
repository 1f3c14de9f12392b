"""What README and docs/ tell to type or name exists: commands, flags, targets, metrics, settings, annotations, Events, alerts, files."""

import importlib
import re
from contextlib import redirect_stdout, suppress
from io import StringIO

import pytest
import yaml

from kvip.cli.main import COMMANDS
from kvip.core.annotations import SCHEMA
from kvip.kube_vip_flags import BY_VARIABLE
from kvip.metric_reference import described
from kvip.options import OPTIONS
from tests.unit.docs.pages import DOCS, PAGES, ROOT, WRITTEN, code, label, spans

SOURCES = {
    ring: "\n".join(path.read_text() for path in sorted((ROOT / ring).rglob("*.py"))) for ring in ("kvip", "kvip/core", "kvip/daemon")
}
SETTINGS = {option.name for option in OPTIONS}
VARIABLES = {option.variable for option in OPTIONS} | {"KVIP_CONFIG"}
CHECKS = set(re.findall(r'check="([a-z-]+)"', SOURCES["kvip/core"]))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
METRICS = {name for item in described() for name in (item.name, *item.series)}
OF_OTHERS = {
    "KVIP_PORT": "what a Service called kvip would set",
    "kube-system": "a namespace",
    "kube-ipvs0": "kube-proxy's NIC",
    "kvip-cluster": "a Lease",
    "--iface": "of flannel",
    "--set": "of helm",
}
SHOWN = {"held-elsewhere", "conflict-over", "api-back"}
"""Words of the state view, which tests/unit/docs/test_transcripts.py and tests/unit/observe hold to the code."""
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=label)
WRITTEN_PAGES = pytest.mark.parametrize("page", WRITTEN, ids=label)

_TYPED = re.compile(r"(?:^\s*(?:\$ |mend  |kubectl )?|-- |\| )kvip ([a-z][a-z-]*)\b(?!:)(.*)|/kvip:\d\S* ([a-z][a-z-]*)(.*)")
_FLAG = re.compile(r"(?<![\w-])--[A-Za-z][A-Za-z0-9-]*")


def typed(page):
    """Command and the rest of its line, for each command of kvip's on the page."""
    for text in code(page):
        for found in _TYPED.finditer(text):
            name, rest = found[1] or found[3], found[2] or found[4] or ""
            yield name, re.split(r" \| kubectl|#|&&", rest)[0]


@pytest.fixture(scope="module")
def flags():
    """The flags of each command, as it lists them itself."""
    listed = {}
    for name in COMMANDS:
        with redirect_stdout(StringIO()) as said, suppress(SystemExit):
            importlib.import_module(f"kvip.cli.{name}").main(["--help"])
        listed[name] = set(_FLAG.findall(said.getvalue()))
        assert len(listed[name]) > 2, name
    return listed


def test_the_pages_have_commands_of_every_kind():
    """What the tests below look for is there to be found."""
    assert {name for page in PAGES for name, _ in typed(page)} >= {"manager", "manifest", "status", "explain", "doctor", "sweep"}
    assert {"demo", "test", "site", "docs"} <= {target for page in PAGES for target in made(page)}


@EVERY_PAGE
def test_every_command_and_flag_exists(page, flags):
    for name, rest in typed(page):
        assert name in flags, f"kvip {name}{rest}"
        assert set(_FLAG.findall(rest)) <= flags[name], f"kvip {name}{rest}"


@WRITTEN_PAGES
def test_every_flag_that_is_named_alone_exists(page, flags):
    known = set().union(*flags.values()) | {f for f in BY_VARIABLE.values() if f} | set(OF_OTHERS)
    for span in spans(page):
        if span.startswith("--"):
            assert set(_FLAG.findall(span)) <= known, span


def made(page):
    """The targets that the page has made."""
    for text in code(page):
        for words in re.findall(r"(?:^\s*|&& |\$ )make ([a-z][a-z -]*)", text):
            yield from words.split()


@EVERY_PAGE
def test_every_make_target_exists(page):
    assert set(made(page)) <= TARGETS


@EVERY_PAGE
def test_every_metric_exists(page):
    assert set(re.findall(r"\bkvip_[a-z_]+", page.read_text())) <= METRICS


@EVERY_PAGE
def test_every_variable_exists(page):
    named = set(re.findall(r"\bKVIP_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    assert named <= VARIABLES | set(OF_OTHERS)


@EVERY_PAGE
def test_every_value_of_the_chart_is_a_setting(page):
    assert set(re.findall(r"settings\.([a-z][a-z0-9-]*)=", page.read_text())) <= SETTINGS


@WRITTEN_PAGES
def test_every_word_with_hyphens_is_a_setting_a_check_or_another_known_name(page):
    known = SETTINGS | CHECKS | TARGETS | SHOWN | set(OF_OTHERS) | {str(option.default) for option in OPTIONS}
    known |= {choice for option in OPTIONS for choice in option.choices} | set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', SOURCES["kvip/core"]))
    words = {span.partition("=")[0] for span in spans(page) if re.fullmatch(r"[a-z]+(-[a-z0-9]+)+(=\S+)?", span)}
    assert words <= known


@EVERY_PAGE
def test_every_annotation_exists(page):
    named = set(re.findall(r"\b((?:kube-vip|kvip)\.io/[A-Za-z0-9_-]+)", page.read_text()))
    known = {annotation.key for annotation in SCHEMA} | set(re.findall(r'"((?:kube-vip|kvip)\.io/[A-Za-z0-9_-]+)"', SOURCES["kvip"]))
    assert named <= known


@WRITTEN_PAGES
def test_every_file_of_the_repository_that_is_named_exists(page):
    for span in spans(page):
        if re.fullmatch(r"(kvip|tests|lab|benchmarks|docs|deploy)/[\w./-]+", span):
            assert (ROOT / span).exists(), span


# The tables of docs/troubleshoot.md


def section(title):
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", (DOCS / "troubleshoot.md").read_text(), re.MULTILINE | re.DOTALL)[1]


def test_every_event_is_explained_and_every_explained_one_exists():
    text = SOURCES["kvip/core"] + SOURCES["kvip/daemon"]
    posted = set(re.findall(r'(?:\breason=|\babout\(|\b_post\(\s*\w+,\s*)"([A-Z][A-Za-z]+)"', text))
    assert set(re.findall(r"^\| `(\w+)` \| (?:Service|Node) \|", section("Events"), re.MULTILINE)) == posted


def test_every_alert_is_explained_and_every_explained_one_exists():
    rules = [rule["alert"] for group in yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    assert sorted(re.findall(r"`(Kvip\w+)`", section("Alerts"))) == sorted(rules)


def test_messages_that_the_page_quotes_are_kvips():
    """Words of tables in "pending" and "not ready" by which a reader finds his row."""
    quoted = re.findall(r"^\| `([^`]+)`", section("The Service is pending") + section("A daemon is not ready"), re.MULTILINE)
    assert len(quoted) > 15
    everything = SOURCES["kvip"]
    for message in quoted:
        pieces = [piece.strip() for piece in re.split(r"\.\.\.|80/TCP|node\.kubernetes\.io/\S+|SETTING:", message)]
        longest = max(pieces, key=len)
        assert longest in everything, message
