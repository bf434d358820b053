"""The command line: ``muster-agent run | enroll | status | doctor | hold | release | import …``."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from muster_agent.app import doctor, facts, feed_cli, fsck, self_cli, service, status
from muster_agent.base import config, proxy
from muster_agent.base.settings import ProxySettings
from muster_agent.base.system_clock import SystemClock
from muster_agent.fetch import drop
from muster_agent.identity import enroll
from muster_agent.trust.time import ClockReading
from muster_agent.update import interlocks
from muster_protocol import json_log
from muster_protocol.wire.addresses import joined
from muster_protocol.wire.errors import MusterError

DIRECTORY = Path("/var/lib/muster")
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: well; 1: refused or unwell, one line on stderr says why; 2: usage."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except MusterError as error:
        print(f"muster-agent: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"muster-agent: {where}{error.strerror or error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="muster-agent", description="Runs signed models on this device."
    )
    parser.add_argument("--version", action="version", version=facts.agent_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        to: "argparse._SubParsersAction[_Parser]" = commands,
    ) -> _Parser:
        made = to.add_parser(name, help=text, description=text)
        made.add_argument(
            "--dir", type=Path, default=DIRECTORY, metavar="DIR",
            help="the agent's directory (default: %(default)s)",
        )  # fmt: skip
        made.set_defaults(command=run)
        return made

    run = add("run", _run, "Serve the committed models and take updates, until SIGTERM.")
    run.add_argument("-v", "--verbose", action="store_true", help="log every step")
    run.add_argument("--log-json", action="store_true", help="log lines of JSON")
    joining = add("enroll", _enroll, "Join a hub: make a key here, get a certificate for it.")
    joining.add_argument("--hub", required=True, metavar="URL", help="https address of the hub")
    joining.add_argument("--token", required=True, help="enrolment token from the hub's operator")
    root = joining.add_mutually_exclusive_group()
    root.add_argument("--root", type=Path, metavar="FILE", help="the factory root of trust")
    root.add_argument("--root-sha256", metavar="HEX", help="its SHA-256; the hub sends the file")
    joining.add_argument("--device", metavar="ID", help="device id, when the token names none")
    joining.add_argument(
        "--labels", type=Path, metavar="FILE", help="key=value lines, for a token that leaves them"
    )
    joining.add_argument(
        "--key-uri", metavar="URI", help="a P-256 key on a PKCS#11 token: pkcs11:…"
    )
    joining.add_argument(
        "--proxy", metavar="URL", help="proxy on the way to the hub: http://host:port"
    )
    joining.add_argument("--proxy-user", default="", metavar="NAME", help="who it is to the proxy")
    joining.add_argument(
        "--proxy-password-file", type=Path, metavar="FILE", help="file of that user's password"
    )
    for name, command, text in (
        ("status", _status, "Show what runs and what an update waits for."),
        ("doctor", _doctor, "Check everything an update depends on."),
    ):
        add(name, command, text).add_argument("--json", action="store_true", help="for programs")
    holding = add("hold", _hold, "Begin no swap on this device until it is released.")
    holding.add_argument("--reason", default="", help="words for the report, such as a name")
    releasing = add("release", _release, "Take a hold away.")
    for each in (holding, releasing):
        each.add_argument("slot", nargs="?", metavar="SLOT", help="one slot (default: every slot)")
    carrying = add("import", _import, "Take an exported folder, such as a USB stick's.")
    carrying.add_argument("folder", type=Path, metavar="FOLDER")
    feeds = commands.add_parser("feed", help="Put feeds to work.", description="Put feeds to work.")
    feed_commands = feeds.add_subparsers(required=True, metavar="COMMAND")
    feed_cli.add_commands(partial(add, to=feed_commands))
    own = commands.add_parser("self", help="Update the agent.", description="Update the agent.")
    own_commands = own.add_subparsers(required=True, metavar="COMMAND")
    self_cli.add_commands(partial(add, to=own_commands))
    add("fsck", _fsck, "Read every stored file and compare it with its name and manifest.")
    return parser


_Parser = argparse.ArgumentParser


def _run(options: argparse.Namespace) -> int:
    json_log.configure(
        logging.DEBUG if options.verbose else logging.INFO,
        "%(levelname)s %(name)s: %(message)s",
        as_json=options.log_json,
    )
    return service.run(options.dir)


def _enroll(options: argparse.Namespace) -> int:
    clock = SystemClock()
    directory: Path = options.dir
    directory.mkdir(parents=True, exist_ok=True)
    done = enroll.enroll(
        enroll.EnrolmentRequest(
            directory=directory,
            hub_url=options.hub,
            token=options.token,
            device=options.device,
            root_file=options.root,
            root_sha256=options.root_sha256,
            key_uri=options.key_uri,
            labels=enroll.read_labels(options.labels) if options.labels else {},
            facts=msgspec.to_builtins(facts.read(directory)),
            proxy=_proxy(options),
            environment=os.environ,
        ),
        ClockReading(clock.wall(), clock.quality()),
    )
    print(f"{done.device} is enrolled; broker {joined(done.broker_host, done.broker_port)}")
    way = _way(directory, done)
    if way is not None and way.origin != proxy.NAMED:
        print(
            f"the broker is behind {way}, the proxy of {way.origin}: a service has an environment "
            f"of its own, so set [proxy] url in {directory / config.FILE}"
        )
    return 0


def _way(directory: Path, done: enroll.Enrolment) -> proxy.Proxy | None:
    """The proxy on the way to the broker; None: it is reached straight."""
    settings = config.load(directory).settings.proxy
    proxies = proxy.chosen(settings, directory, os.environ)
    try:
        return proxies.way(done.broker_host, done.broker_port)
    except proxy.ProxyError:
        return None  # The link says it, and doctor.


def _proxy(options: argparse.Namespace) -> ProxySettings | None:
    """The proxy of the command line; None where it names none."""
    file: Path | None = options.proxy_password_file
    if options.proxy is None:
        if options.proxy_user or file:
            raise enroll.EnrolError("--proxy-user and --proxy-password-file need --proxy")
        return None
    return ProxySettings(
        url=options.proxy,
        username=options.proxy_user,
        password_file="" if file is None else str(file.absolute()),
    )


def _status(options: argparse.Namespace) -> int:
    found = status.read(config.load(options.dir))
    print(_json(found) if options.json else status.render(found))
    return 0


def _hold(options: argparse.Namespace) -> int:
    config.load(options.dir)  # A wrong --dir must not look like a hold.
    interlocks.put_hold(options.dir, options.slot, options.reason)
    print(f"{options.slot or 'every slot'} is held: nothing is swapped until it is released")
    return 0


def _release(options: argparse.Namespace) -> int:
    what = options.slot or "every slot"
    found = interlocks.remove_hold(options.dir, options.slot)
    print(f"{what} is released" if found else f"{what} was not held")
    return 0


def _import(options: argparse.Namespace) -> int:
    free = config.load(options.dir).settings.limits.disk_free_bytes_min
    done = drop.take(options.folder, options.dir, SystemClock(), free)
    print(f"{done.chunks} chunks, {done.bytes} bytes are handed to the agent; {done.receipt}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    findings = []
    for finding in doctor.examine(options.dir, SystemClock()):
        findings.append(finding)
        if not options.json:
            print(f"{_MARKS[finding.grade]}  {finding.check:<9} {finding.line}", flush=True)
    if options.json:
        print(_json([finding.as_dict() for finding in findings]))
    return 1 if any(finding.grade == "fail" for finding in findings) else 0


def _fsck(options: argparse.Namespace) -> int:
    found = 0
    for line in fsck.problems(options.dir):
        found += 1
        print(line)
    print("everything stored is what it should be" if not found else f"{found} problems")
    return 1 if found else 0


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


if __name__ == "__main__":
    sys.exit(main())
