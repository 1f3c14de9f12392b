"""Where a value comes from: flag, variable, alias or file, and which of them wins."""

import argparse

import pytest

from kvip.aliases import FOREIGN
from kvip.config import Loaded, SystemFiles, add_arguments, load
from kvip.errors import ConfigError
from kvip.options import OPTIONS
from kvip.settings import Settings
from tests.unit.config.loading import OVERRIDES, SAMPLES, loaded, refused


def test_defaults_are_the_documented_ones():
    result = loaded()
    assert result == Loaded(settings=Settings(node_name="node-1.example", election="claims", socket="/run/kvip/kvip.sock"))
    assert (result.settings.lease_duration_s, result.settings.renew_deadline_s, result.settings.retry_period_s) == (5, 3, 1)


def test_the_socket_for_readers_is_in_the_state_dir_unless_named_or_off():
    assert loaded("--state-dir", "/var/kvip").settings.socket == "/var/kvip/kvip.sock"
    assert loaded("--state-dir", "/var/kvip", "--socket", "/run/x").settings.socket == "/run/x"
    assert loaded("--socket", "off").settings.socket == ""


def test_flag_beats_own_variable_beats_kube_vip_variable_beats_file_beats_default():
    sources = {"KVIP_LEASE_DURATION": "7", "vip_leaseduration": "8"}
    toml = "lease-duration = 9"
    assert loaded("--lease-duration", "6", toml=toml, **sources).settings.lease_duration_s == 6
    assert loaded(toml=toml, **sources).settings.lease_duration_s == 7
    del sources["KVIP_LEASE_DURATION"]
    assert loaded(toml=toml, **sources).settings.lease_duration_s == 8
    assert loaded(toml=toml).settings.lease_duration_s == 9
    assert loaded().settings.lease_duration_s == 5


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_setting_is_settable_by_flag_variable_file_and_alias(option):
    text, value = OVERRIDES.get(option.name) or SAMPLES[option.kind]
    literal = text if option.kind in ("switch", "number", "integer") else f'"{text}"'
    files = {"/kube": ""}
    results = [
        loaded(option.flag, text, files=files),
        loaded(f"{option.flag}={text}", files=files),
        loaded(files=files, **{option.variable: text}),
        loaded(toml=f"{option.name} = {literal}", files=files),
        *(loaded(files=files, **{alias: text}) for alias in option.alias if alias != "vip_arpRate"),
    ]
    for result in results:
        assert getattr(result.settings, option.field) == value
        assert type(getattr(result.settings, option.field)) is type(option.default)
        assert result.warnings == ()


def test_names_drop_the_unit():
    assert {option.name for option in OPTIONS} >= {"lease-duration", "frame-rate", "address-lifetime"}
    assert not [option.name for option in OPTIONS if option.name.endswith(("-s", "-pps"))]


def test_an_empty_variable_is_not_set():
    environ = {option.variable: "" for option in OPTIONS} | {foreign.name: "" for foreign in FOREIGN}
    environ |= {alias: "" for option in OPTIONS for alias in option.alias} | {"KVIP_CONFIG": ""}
    assert loaded(**environ) == loaded()


def test_an_empty_flag_is_set():
    assert loaded("--metrics-address", "").settings.metrics_address == ""
    assert loaded("--interface", "", KVIP_INTERFACE="eth7").settings.interface == ""
    assert refused("--lease-duration", "").path == "lease-duration"


def test_a_switch_flag_needs_no_value():
    assert loaded("--class-only", "--wait-for-interface=false", KVIP_WAIT_FOR_INTERFACE="1").settings.class_only is True
    assert loaded("--wait-for-interface=false", KVIP_WAIT_FOR_INTERFACE="1").settings.wait_for_interface is False


def test_config_flag_beats_its_variable():
    result = loaded("--config", "/b.toml", toml="interface = 'eth1'", files={"/b.toml": "interface = 'eth2'"})
    assert result.settings.interface == "eth2"


def test_loads_a_real_file(tmp_path):
    path = tmp_path / "kvip.toml"
    path.write_text("lease-duration = 6\n")
    assert load(["--config", str(path)], {}).settings.lease_duration_s == 6
    with pytest.raises(ConfigError, match="is not TOML"):
        load(["--config", "a\0b"], {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(["--config", str(tmp_path)], {})
    assert SystemFiles().exists(str(path))


def test_flags_have_help():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = parser.format_help()
    assert all(option.flag in text for option in OPTIONS)
