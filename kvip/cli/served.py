"""Which Services are kvip's, for commands that run beside no daemon: the daemons' settings, given as flags.

Input: arguments. Output: `Rules`. It must not read the daemons' environment or files.
"""

from __future__ import annotations

import argparse

from kvip.checks import text_fault
from kvip.core.addresses import parse_networks
from kvip.core.desired import Rules
from kvip.errors import ConfigError
from kvip.options import OPTIONS
from kvip.settings import split_list

_DEFAULTS = {option.field: str(option.default) for option in OPTIONS}
_FLAGS = (
    ("load_balancer_class", "CLASS"),
    ("service_namespace", "NAMES"),
    ("allow_cidr", "CIDRS"),
)


def add_arguments(parser: argparse.ArgumentParser, *, when: str) -> None:
    """The flags; `when` they count, as the beginning of a help text."""
    for field, metavar in _FLAGS:
        text = f"{when}: the daemons' setting (default: {_DEFAULTS[field] or 'all'})"
        parser.add_argument(f"--{field.replace('_', '-')}", metavar=metavar, default=_DEFAULTS[field], help=text)
    parser.add_argument("--class-only", action="store_true", help=f"{when}: Services without a class are not kvip's")


def rules_of(options: argparse.Namespace) -> Rules:
    """The rules that these flags mean. Raises ConfigError."""
    for field, _ in _FLAGS:
        problem = text_fault(field, getattr(options, field))
        if problem:
            name = field.replace("_", "-")
            raise ConfigError(name, problem, source=f"flag --{name}")
    return Rules(
        load_balancer_class=options.load_balancer_class,
        class_only=options.class_only,
        namespaces=split_list(options.service_namespace),
        allowed=parse_networks(split_list(options.allow_cidr)),
    )
