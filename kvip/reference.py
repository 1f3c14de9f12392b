"""The reference of the settings: docs/configuration.md, generated from the schema.

Inputs: the schema and the tables of kube-vip's names. Output: Markdown. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvip.aliases import FOREIGN, Foreign
from kvip.kube_vip_flags import BY_VARIABLE
from kvip.options import OPTIONS, Option

_HEAD = """# Configuration

Generated from `kvip/settings.py`, `kvip/aliases.py` and `kvip/kube_vip_flags.py`; edit those.

A setting is taken from the first of: its flag, its `KVIP_` variable, kube-vip's variable for it, kube-vip's flag for it, the TOML file
(`--config FILE` or `KVIP_CONFIG`), its default. An empty variable counts as not set. In the file a setting is called as its
flag without the dashes in front: `lease-duration = 5`. Times are numbers of seconds. A value that cannot be used ends kvip with
exit code 2 and a message that names the setting and where the value came from.
The tests that show what kube-vip's names do: [drop-in-tests.md](drop-in-tests.md).
What to set where tenants share a cluster: [threats.md](threats.md).

## Settings

| flag | variable | kube-vip's variable and flag | default | meaning |
|--|--|--|--|--|
"""
_KUBE_VIP = """
`vip_arpRate` is in milliseconds; below 500 it means 3000, as for kube-vip. `vip_loglevel` is a number of Go's slog (-4, 0, 4, 8) or a name.
An `interface` called `auto` is refused; a `services-interface` may be. `cp_namespace` is refused where kube-vip would not follow it: in
a pod of another namespace.
`kvip manager` takes the command line of `kube-vip manager`: each of its flags means what the variable beside it means, and counts where
neither that variable nor kvip's own flag or variable is set. `--interface` and `--namespace` (`-n`) are kvip's own flags as well.

## kube-vip's other variables and flags

Switches are read as kube-vip reads them (1, t, true, 0, f, false, ...). "Refused" means that kvip does not start, because going on
would change who holds a VIP, or where. "Warning" means that it starts, says so, and does without. "No effect" is silent.

| variable | flag | kvip | why |
|--|--|--|--|
"""


def reference_markdown() -> str:
    """docs/configuration.md: every setting, and what kvip does with each of kube-vip's variables and flags."""
    settings = [
        f"| `{option.flag}` | `{option.variable}` | {_code(_with_flags(option.alias))} | {option.shown_default} | {_meaning(option)} |"
        for option in OPTIONS
    ]
    foreign = [f"| {_names(item)} | {_treatment(item)} | {item.note} |" for item in FOREIGN]
    return _HEAD + "\n".join(settings) + "\n" + _KUBE_VIP + "\n".join(foreign) + "\n"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names if name)


def _names(item: Foreign) -> str:
    return f"{_code([item.name] if item.is_variable else [])} | {_code([BY_VARIABLE.get(item.name, '')])}"


def _with_flags(variables: Iterable[str]) -> Iterable[str]:
    for variable in variables:
        yield variable
        yield BY_VARIABLE.get(variable, "")


def _meaning(option: Option) -> str:
    notes = [option.unit] if option.unit else []
    if option.at_least is not None:
        notes.append(f"{option.at_least:.12g} to {option.at_most:.12g}")
    if option.zero:
        notes.append(f"0 = {option.zero}")
    if option.kind == "choice":
        notes.append(f"one of {_code(option.choices)}")
    return option.help + (f" ({'; '.join(notes)})" if notes else "")


def _treatment(foreign: Foreign) -> str:
    word = {"none": "no effect", "followed": "followed", "warned": "warning", "refused": "refused"}[foreign.treatment]
    when = {
        "set": "",
        "true": " when true",
        "false": " when false",
        "not /32,/128": " unless `32`, `128` or both",
        "not kubernetes": " unless `kubernetes`",
    }[foreign.when]
    return word + when
