"""`kvip manager`: reads the settings, sets up logging and the event loop, and runs the daemon."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import uvloop

from kvip import config, log
from kvip.daemon import app
from kvip.errors import ConfigError, KvipError
from kvip.settings import Settings

logger = logging.getLogger("kvip.cli.manager")


def main(argv: Sequence[str]) -> int:
    """Run the daemon; 0 after a stop by signal, 2 for a setting that cannot be used, 1 for anything else."""
    if {"-h", "--help"} & set(argv):
        parser = argparse.ArgumentParser(
            prog="kvip manager",
            usage="kvip manager [-h] [--config FILE] [SETTING ...]",
            description="Run the daemon: hold and announce the VIPs of LoadBalancer Services. One runs on each node, as root or with "
            "NET_ADMIN and NET_RAW, until SIGTERM, at which it lets go of everything. Logs go to stderr: JSON, or logfmt (--log-format).",
            epilog="Exit code 0: stopped by a signal. 1: it cannot run. 2: a setting cannot be used. "
            "Example: kvip manager --interface eth0 --allow-cidr 192.0.2.0/24. In a cluster: kvip manifest daemonset.",
        )
        config.add_arguments(parser)
        parser.print_help()
        return 0
    try:
        loaded = config.load(argv, os.environ)
    except ConfigError as error:
        print(f"kvip: {error}", file=sys.stderr)
        return 2
    settings = loaded.settings
    log.setup(settings.log_format, settings.log_level)
    for warning in loaded.warnings:
        logger.warning("setting", extra={"reason": warning})
    return exit_now(_run(settings))


def _run(settings: Settings) -> int:
    factory = uvloop.new_event_loop if settings.loop == "uvloop" else asyncio.new_event_loop
    try:
        asyncio.Runner(loop_factory=factory).run(app.run(settings))
    except ConfigError as error:
        logger.critical("a setting cannot be used here", extra={"reason": str(error)})
        print(f"kvip: {error}", file=sys.stderr)
        return 2
    except KvipError as error:
        logger.critical("kvip cannot run", extra={"reason": str(error)})
        return 1
    except Exception:
        logger.critical("kvip failed", exc_info=True)
        return 1
    return 0


def exit_now(code: int) -> NoReturn:
    """End the process without waiting for threads that hang in name resolution or on a disk (asyncio's executor has no bound)."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
