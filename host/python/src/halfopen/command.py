"""The command `python -m halfopen`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import halfopen
from halfopen.errors import HalfopenError
from halfopen.output import Writer


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    service: list[str] = []
    if "--" in given:
        at = given.index("--")
        given, service = given[:at], given[at + 1 :]
    options = _parser().parse_args(given)
    _raise_descriptors()
    stdout, stderr = Writer(1), Writer(2)
    _log_to(stderr)
    try:
        return asyncio.run(_serve(options, service, stdout, stderr))
    except HalfopenError as error:
        stderr(f"error: {error}\n".encode())
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        stdout.close()
        stderr.close()


async def _serve(
    options: argparse.Namespace, service: Sequence[str], stdout: Writer, stderr: Writer
) -> int:
    server = await halfopen.serve(
        options.component,
        listen_on=options.listen or ["127.0.0.1:1234"],
        arguments=service,
        environment=dict(options.env),
        isolation=options.isolation,
        max_connections=options.max_connections,
        max_memory=options.max_memory << 20,
        max_compute=options.max_compute,
        idle_timeout=options.idle_timeout,
        connect_timeout=options.connect_timeout,
        grace=options.grace,
        allow_connect=options.allow_connect,
        cache=not options.no_cache,
        stdout=stdout,
        stderr=stderr,
    )
    for address in server.addresses:
        stdout(f"{address}\n".encode())
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if stopping:
            server.close()
        else:
            stopping.append(asyncio.ensure_future(server.stop()))

    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop)
    await server.wait_closed()
    await asyncio.gather(*stopping)
    return 0


def _raise_descriptors() -> None:
    """Raises the soft limit on open files to the hard one: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        pass


class _Log(logging.Handler):
    """Writes the log where the lines of services go, so that neither waits."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record).replace("\n", "\\n")
        self._writer(f"{record.levelname.lower()}: {text}\n".encode(errors="backslashreplace"))


def _log_to(writer: Writer) -> None:
    log = logging.getLogger("halfopen")
    log.handlers[:] = [_Log(writer)]
    log.propagate = False
    log.setLevel(logging.INFO)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"`{text}` is no variable; write NAME=VALUE")
    return name, value


def _limit(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 31:
        raise ValueError
    return value


_limit.__name__, _count.__name__ = "number of seconds", "number"


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}; `{self.prog} --help` shows the usage\n")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="halfopen", description="Serves TCP services that are components.")
    parser.add_argument("--version", action="version", version=f"halfopen {halfopen.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serves a component in callback style",
        usage="halfopen serve COMPONENT [options] [-- ARGUMENTS]",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    serve.add_argument("component", metavar="COMPONENT", help="the component's file")
    for flag, settings in _FLAGS.items():
        serve.add_argument(flag, **settings)
    return parser


_FLAGS: dict[str, dict[str, Any]] = {
    "--listen": {
        "action": "append",
        "metavar": "ADDRESS",
        "help": "an address to listen on, such as 127.0.0.1:1234 or [::]:80; may be repeated",
    },
    "--isolation": {
        "choices": ["connection", "shared"],
        "help": "an instance for each connection, or one for all; by default as declared",
    },
    "--env": {
        "action": "append",
        "type": _variable,
        "default": [],
        "metavar": "NAME=VALUE",
        "help": "a variable of the service; may be repeated",
    },
    "--allow-connect": {
        "action": "append",
        "default": [],
        "metavar": "ADDRESS",
        "help": "where the service may connect to, such as 10.0.0.7:5432; may be repeated",
    },
    "--max-connections": {
        "type": _count,
        "default": 4096,
        "metavar": "N",
        "help": "open connections; further ones wait",
    },
    "--max-memory": {
        "type": _count,
        "default": 256,
        "metavar": "MIB",
        "help": "memory of an instance, and as much again that waits to be sent",
    },
    "--max-compute": {
        "type": _limit,
        "default": 10.0,
        "metavar": "SECONDS",
        "help": "time that one event may take",
    },
    "--idle-timeout": {
        "type": _limit,
        "default": 600.0,
        "metavar": "SECONDS",
        "help": "time without a byte in either direction",
    },
    "--connect-timeout": {
        "type": _limit,
        "default": 10.0,
        "metavar": "SECONDS",
        "help": "time in which the service connects",
    },
    "--grace": {
        "type": _limit,
        "default": 10.0,
        "metavar": "SECONDS",
        "help": "time to finish after SIGTERM",
    },
    "--no-cache": {"action": "store_true", "help": "compiles at each start"},
}
