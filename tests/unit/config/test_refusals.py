"""Values, files and command lines that are refused, and what the refusal names."""

import pytest

from kvip.options import OPTIONS
from tests.unit.config.loading import refused

NUMBERS = [option for option in OPTIONS if option.kind in ("number", "integer")]
BAD_NUMBERS = ["x", "5s", "nan", "inf", "-inf", "1e999", "-1", "0x5", "1_0", " 5", "5 ", "٥", "9" * 5000, "1e30"]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_bad_number_is_refused_with_its_path_and_source(option):
    for text in BAD_NUMBERS:
        for error, source in [
            (refused(f"{option.flag}={text}"), f"flag {option.flag}"),
            (refused(**{option.variable: text}), f"variable {option.variable}"),
            *((refused(**{alias: text}), f"variable {alias}") for alias in option.alias),
        ]:
            assert (error.path, error.source) == (option.name, source), text[:8]
            assert len(str(error)) < 300, text[:8]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_bad_number_in_a_file_is_refused(option):
    for literal in ("nan", "inf", "-1", "true", '"5"', "[1]", "2026-01-01", "1" + "0" * 400):
        error = refused(toml=f"{option.name} = {literal}")
        assert (error.path, error.source) == (option.name, "file /kvip.toml"), literal[:8]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("address-lifetime", "9"),
        ("address-lifetime", "60.5"),
        ("refresh-interval", "0.4"),
        ("frame-rate", "0"),
        ("frame-burst", "63"),
        ("audit-interval", "0"),
        ("lease-duration", "0"),
        ("lease-duration", "3601"),
        ("retry-period", "0"),
        ("node-name", "a b"),
        ("node-name", "-a"),
        ("node-name", ".".join(["a" * 63] * 4)),
        ("namespace", "a.b"),
        ("namespace", "a" * 64),
        ("lease-name", "ns/name"),
        ("lease-name", "Upper"),
        ("interface", "abcdefghijklmnop"),
        ("interface", "eth0/1"),
        ("interface", "eth0:1"),
        ("interface", ".."),
        ("interface", "éééééééé"),
        ("interface", "auto"),
        ("metrics-address", "2112"),
        ("metrics-address", ":65536"),
        ("metrics-address", "::1:2112"),
        ("metrics-address", "[::g]:1"),
        ("metrics-address", "999.1.1.1:1"),
        ("metrics-address", "a_b:1"),
        ("state-dir", "run/kvip"),
        ("state-dir", "/run\n/x"),
        ("socket", "run/kvip.sock"),
        ("socket", "/run/" + "x" * 99),
        ("load-balancer-class", "a b"),
        ("load-balancer-class", "/x"),
        ("class-only", "yes"),
        ("log-format", "xml"),
        ("log-level", "trace"),
        ("loop", "trio"),
        ("election", "raft"),
        ("kubeconfig", "\udcff"),
    ],
)
def test_bad_value_is_refused_with_its_path_and_source(name, text):
    error = refused(f"--{name}={text}")
    assert (error.path, error.source) == (name, f"flag --{name}")
    assert "\n" not in str(error)


def test_wrong_types_in_a_file_are_refused():
    assert refused(toml="interface = 5").problem == "text is expected, got 5"
    assert refused(toml="class-only = 1").problem == "true or false is expected, got 1"
    assert refused(toml='class-only = "true"').problem == "a switch without quotes is expected, got 'true'"
    assert refused(toml="loop = true").problem == "text is expected, got True"
    assert refused(toml='lease-duration = "5"').problem == "a number without quotes is expected, got '5'"


@pytest.mark.parametrize("content", ["a = ", "a = 1\na = 2", b"\xff", "a = " + "[" * 20_000, "a = " + "1" * 5000, "#" * (1 << 21)])
def test_bad_file_is_refused(content):
    error = refused(toml=content)
    assert (error.path, error.source) == ("config", "variable KVIP_CONFIG")


def test_missing_file_is_refused():
    assert str(refused("--config", "/x")) == "config: cannot read '/x': No such file or directory (from flag --config)"


def test_unknown_key_in_a_file_is_refused_with_a_guess():
    error = refused(toml="lease-durations = 5")
    assert str(error) == "lease-durations: no such setting; did you mean lease-duration? (from file /kvip.toml)"


@pytest.mark.parametrize("argv", [["--lease-durations", "5"], ["--lease-duration"], ["stray"], ["--lease", "5"]])
def test_bad_command_line_is_a_config_error(argv):
    assert refused(*argv).path == "command line"
