"""Whatever the environment and the file say, they load or are a ConfigError."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.aliases import FOREIGN
from kvip.config import load
from kvip.errors import ConfigError
from kvip.kube_vip_flags import FLAGS
from kvip.options import OPTIONS
from tests.unit.config.loading import ACCOUNT, FakeFiles, loaded, refused

NAMES = sorted(
    {option.variable for option in OPTIONS}
    | {alias for option in OPTIONS for alias in option.alias}
    | {foreign.name for foreign in FOREIGN}
    | {"KVIP_CONFIG", "HOME", "KUBERNETES_SERVICE_HOST", "KVIP_TYPO"}
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=st.characters(codec=None, categories=("Cs", "Cc", "Lu", "Nd"))),
    st.sampled_from(
        ["true", "false", "1", "0", "5", "3", "1.5", "-4", "nan", "inf", "1e400", "9" * 5000, "global", "eth0", ":1", "/kvip.toml", "/a"]
    ),
    st.floats().map(str),
    st.integers().map(str),
)


@given(
    environ=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), toml=st.one_of(st.binary(max_size=40), st.text().map(str.encode))
)
def test_any_environment_loads_or_is_a_config_error(environ, toml):
    files = FakeFiles(**{"/kvip.toml": toml, "/a": b"", f"{ACCOUNT}/namespace": b"\xff"})
    with contextlib.suppress(ConfigError):
        settings = load([], environ, files=files, hostname="n1").settings
        assert settings.lease_duration_s - settings.renew_deadline_s >= 1 - 1e-9
        assert settings.renew_deadline_s >= 2 * settings.retry_period_s - 1e-9
        assert settings.election in ("global", "claims")
        assert settings.address_lifetime_s == 0 or settings.address_lifetime_s >= 10


TOML_VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.just('"5"'),
    st.just("{}"),
)


@given(table=st.dictionaries(st.sampled_from([option.name for option in OPTIONS]), TOML_VALUES, min_size=1, max_size=3))
def test_any_table_loads_or_is_a_config_error(table):
    toml = "\n".join(f"{name} = {value}" for name, value in table.items())
    with contextlib.suppress(ConfigError):
        settings = loaded(toml=toml).settings
        assert all(getattr(settings, option.field) is not None for option in OPTIONS)


ARGUMENTS = (
    st.sampled_from(
        [option.flag for option in OPTIONS] + [f"--{flag}" for flag in FLAGS] + ["--config", "--", "-n", "-", "--no-switch", "-h"]
    )
    | st.text(max_size=12)
    | VALUES
)


@settings(deadline=None)
@given(argv=st.lists(ARGUMENTS | st.builds("{}={}".format, st.sampled_from([option.flag for option in OPTIONS]), VALUES), max_size=6))
def test_any_command_line_loads_or_is_a_config_error(argv):
    with contextlib.suppress(ConfigError):
        settings = load(argv, {}, files=FakeFiles(**{"/kvip.toml": "", "/a": b""}), hostname="n1").settings
        assert settings.lease_duration_s - settings.renew_deadline_s >= 1 - 1e-9


@pytest.mark.parametrize(
    "toml", ["a = " + "[" * 100_000, "[" * 100_000, "a" + ".a" * 1_000 + " = 1", "x = " + "{a=" * 50_000, "lease-duration = " + "9" * 5000]
)
def test_a_file_without_end_is_a_config_error_of_bounded_length(toml):
    assert len(str(refused(toml=toml))) < 400
