"""The commands of ``python -m ovpn_dco.bench``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from ovpn_dco.bench import handshake as handshake_
from ovpn_dco.bench import machine, plot, report, scenarios, targets
from ovpn_dco.bench import memory as memory_
from ovpn_dco.bench import storm as storm_
from ovpn_dco.bench.errors import BenchError, UnavailableError
from ovpn_dco.bench.figures import OURS
from ovpn_dco.bench.progress import ProgressDisplay
from ovpn_dco.bench.subjects import (
    COURSES,
    TCP_COURSES,
    OpenVpn,
    Ours,
    RawLink,
    Subject,
    VpnServer,
    WireGuardGo,
)
from ovpn_dco.model import Cipher, Offload
from ovpn_dco.validation.rules import WORKERS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ovpn_dco.bench.subjects import Course

_Function = TypeVar("_Function", bound="Callable[..., Any]")
_Entrant = TypeVar("_Entrant", bound="Subject | VpnServer")
_Effort = TypeVar("_Effort", handshake_.HandshakeEffort, storm_.StormEffort)

_PATH = click.Path(dir_okay=False, writable=True, path_type=Path)


def _subjects(ours: Ours | None = None) -> dict[str, Subject]:
    """By the names of options, which are the same for our variants."""
    others: tuple[Subject, ...] = (
        OpenVpn.plain(), OpenVpn.tuned(), WireGuardGo(), RawLink(),
    )  # fmt: skip
    return {OURS: ours or Ours(), **{subject.name: subject for subject in others}}


class Outputs:
    """Where a report goes; the same options on every command."""

    def __init__(
        self,
        json_file: Path | None,
        plot_file: Path | None,
        markdown_file: Path | None,
        check: bool,
    ) -> None:
        self.json, self.plot, self.markdown = json_file, plot_file, markdown_file
        self.check = check
        if plot_file:
            plot.require_matplotlib()

    @property
    def any(self) -> bool:
        """Whether one of the options was given."""
        return bool(self.json or self.plot or self.markdown or self.check)

    def write(self, result: report.Report) -> None:
        """Show the tables and write the files. Raises BenchError for a missed target."""
        console = Console()
        if not console.is_terminal:
            console = Console(width=100)
        report.show(result, console)
        if self.json:
            report.write_json(result, self.json)
        if self.markdown:
            self.markdown.write_text(report.markdown(result), encoding="utf-8")
        if self.plot:
            plot.write_plot(result, self.plot)
        if self.check and not result.reached():
            raise BenchError("a target was missed")


def output_options(function: _Function) -> _Function:
    """Add --json, --plot, --markdown and --check."""
    for option in (
        click.option("--check", is_flag=True, help="Exit with 1 when a target is missed."),
        click.option("--markdown", "markdown_file", type=_PATH, help="Write the tables."),
        click.option("--plot", "plot_file", type=_PATH, help="Draw a picture (matplotlib)."),
        click.option("--json", "json_file", type=_PATH, help="Write all samples."),
    ):
        function = option(function)
    return function


class _Group(click.Group):
    """Turns what the bench cannot do into a message and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BenchError as error:
            prefix = "cannot run here: " if isinstance(error, UnavailableError) else ""
            raise click.ClickException(f"{prefix}{error}") from error


@click.group(cls=_Group, invoke_without_command=True)
@output_options
@click.pass_context
def main(ctx: click.Context, /, **options: Any) -> None:
    """Measure ovpn_dco on real traffic, in network namespaces of its own.

    Without a command: crypto, and a short compare, in less than two minutes.
    """
    outputs = Outputs(**options)
    if ctx.invoked_subcommand:
        if outputs.any:
            raise click.UsageError(f"give these options after {ctx.invoked_subcommand}")
        return
    machine.require_traffic()
    result = report.Report(machine.describe())
    with _watch() as watch:
        result.crypto = scenarios.crypto(watch, batches=150)
        _compare(result, watch, scenarios.SHORT, _courses("udp", ()), _subjects())
    outputs.write(result)


@main.command()
@click.option("--batches", default=400, show_default=True, help="Of 64 packets, each figure.")
@output_options
def crypto(batches: int, **options: Any) -> None:
    """Seal and open through the core, beside the bare EVP calls."""
    outputs = Outputs(**options)
    result = report.Report(machine.describe())
    with _watch() as watch:
        result.crypto = scenarios.crypto(watch, batches=batches)
    outputs.write(result)


def _effort_options(function: _Function) -> _Function:
    for option in (
        click.option("--udp-seconds", type=float, help="Length of one UDP trial."),
        click.option("--seconds", type=float, help="Length of one TCP measurement."),
        click.option("--rounds", type=click.IntRange(1), help="How often everything is measured."),
        click.option("--short", is_flag=True, help="A first look rather than a result."),
    ):
        function = option(function)
    return function


def _variant_options(function: _Function) -> _Function:
    for option in (
        click.option("--single-thread", is_flag=True, help="Ours: one thread for both directions."),
        click.option("--workers", type=click.IntRange(1, WORKERS_MAX), default=1,
                     show_default=True, help="Of our devices."),
        click.option("--transport", type=click.Choice(["udp", "tcp"]), default="udp",
                     show_default=True, help="What carries the tunnels."),
    ):  # fmt: skip
        function = option(function)
    return function


def _check_variant(workers: int, single_thread: bool) -> None:
    if single_thread and workers > 1:
        raise click.UsageError("--single-thread is one worker: give no --workers")


def _courses(transport: str, names: Sequence[str]) -> list[Course]:
    """Of this transport; all where none is named."""
    courses = TCP_COURSES if transport == "tcp" else COURSES
    return [courses[name] for name in names or COURSES]


def _effort(
    short: bool, rounds: int | None, seconds: float | None, udp_seconds: float | None
) -> scenarios.Effort:
    effort = scenarios.SHORT if short else scenarios.FULL
    if rounds:
        effort = replace(effort, rounds=rounds, udp_rounds=min(rounds, effort.udp_rounds))
    if seconds:
        effort = replace(effort, tcp_s=seconds)
    if udp_seconds:
        effort = replace(effort, udp_s=udp_seconds)
    return effort


@main.command()
@click.option("--course", type=click.Choice(list(COURSES)), default="veth", show_default=True)
@click.option("--cipher", default="AES-256-GCM", show_default=True)
@click.option("--offloads", help="Only these, by comma: tun_vnet,udp_gso,...; none: none of them.")
@click.option(
    "--peers",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Clients of the server. With several only TCP, a stream for each, is measured.",
)
@_variant_options
@_effort_options
@output_options
def tunnel(
    course: str,
    cipher: str,
    offloads: str | None,
    peers: int,
    transport: str,
    workers: int,
    single_thread: bool,
    short: bool,
    rounds: int | None,
    seconds: float | None,
    udp_seconds: float | None,
    **options: Any,
) -> None:
    """Two devices beside raw veth: TCP x1 and x4, both ways, IPv4, IPv6; UDP; ping."""
    outputs = Outputs(**options)
    _check_variant(workers, single_thread)
    ours = Ours(
        cipher=_cipher(cipher),
        offloads=_offloads(offloads),
        workers=workers,
        single_thread=single_thread,
        peers=peers,
    )
    raw = RawLink(peers=peers)
    (chosen,) = _courses(transport, [course])
    machine.require_traffic()
    # One round says enough about 8 ways of TCP, unless more are asked for.
    base = _effort(short, rounds or 1, seconds, udp_seconds)
    result = report.Report(machine.describe())
    result.settings = {
        **asdict(base),
        "course": course,
        "cipher": cipher,
        "offloads": offloads,
        "transport": transport,
        "workers": workers,
        "single_thread": single_thread,
        "peers": peers,
    }
    result.versions = {subject.name: subject.version() for subject in (ours, raw)}
    measure = scenarios.tunnel_matrix if peers == 1 else scenarios.tunnel_peers
    with _watch() as watch:
        result.endpoints = measure(ours, raw, chosen, base, result.samples, watch)
    outputs.write(result)


def _cipher(text: str) -> str:
    try:
        return Cipher(text).name
    except ValueError as error:
        names = ", ".join(cipher.value for cipher in Cipher if cipher is not Cipher.NONE)
        raise click.BadParameter(f"{text}: not one of {names}") from error


def _offloads(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name for name in text.lower().split(",") if name and name != "none"]
    for name in names:
        if name not in Offload.ALL.names:
            raise click.BadParameter(f"{name}: not one of {', '.join(Offload.ALL.names)}")
    return names


@main.command()
@click.option("--course", "courses", multiple=True, type=click.Choice(list(COURSES)),
              help="Default: all.")  # fmt: skip
@click.option("--subject", "names", multiple=True, type=click.Choice(list(_subjects())),
              help="Default: all that are installed.")  # fmt: skip
@_variant_options
@_effort_options
@output_options
def compare(
    courses: tuple[str, ...],
    names: tuple[str, ...],
    transport: str,
    workers: int,
    single_thread: bool,
    short: bool,
    rounds: int | None,
    seconds: float | None,
    udp_seconds: float | None,
    **options: Any,
) -> None:
    """Ours, openvpn (defaults and tuned), wireguard-go and raw veth, interleaved."""
    outputs = Outputs(**options)
    _check_variant(workers, single_thread)
    machine.require_traffic()
    result = report.Report(machine.describe())
    effort = _effort(short, rounds, seconds, udp_seconds)
    everybody = _subjects(Ours(workers=workers, single_thread=single_thread))
    chosen = {name: everybody[name] for name in names or everybody}
    with _watch() as watch:
        _compare(result, watch, effort, _courses(transport, courses), chosen)
    outputs.write(result)


def _servers() -> dict[str, VpnServer]:
    return {server.name: server for server in (VpnServer.ours(), VpnServer.openvpn())}


@main.command()
@click.option("--subject", "names", multiple=True, type=click.Choice(list(_servers())),
              help="Default: all that are installed.")  # fmt: skip
@click.option("--short", is_flag=True, help="A first look rather than a result.")
@click.option("--rounds", type=click.IntRange(1), help="How often each server is measured.")
@click.option("--seconds", type=float, help="How long clients arrive.")
@click.option("--in-flight", type=click.IntRange(1, 4096), help="Clients at one time.")
@click.option("--generators", type=click.IntRange(1), help="Processes that play clients.")
@click.option("--storm", is_flag=True, help="What they do to clients that are connected.")
@click.option("--clients", type=click.IntRange(1), help="Of one storm.  [default: 500]")
@click.option("--rate", type=click.FloatRange(0, min_open=True),
              help="Clients of a storm, 1/s.  [default: as fast as they get in]")  # fmt: skip
@output_options
def handshake(
    names: tuple[str, ...],
    short: bool,
    rounds: int | None,
    seconds: float | None,
    in_flight: int | None,
    generators: int | None,
    storm: bool,
    clients: int | None,
    rate: float | None,
    **options: Any,
) -> None:
    """Full handshakes of whole servers, ours and openvpn's: rate, and CPU for each of them.

    With --storm: loss and round trips of clients that are connected, while others come all at once,
    and for --seconds before.
    """
    outputs = Outputs(**options)
    if not storm and (clients or rate):
        raise click.UsageError("--clients and --rate are of a --storm")
    machine.require_traffic()
    result = report.Report(machine.describe())
    given: dict[str, Any] = {"rounds": rounds, "in_flight": in_flight, "generators": generators}
    everybody = _servers()
    present = _present(result, [everybody[name] for name in names or everybody], "udp")
    course, samples = COURSES["veth"], result.samples
    with _watch() as watch:
        if storm:
            given |= {"clients": clients, "rate": rate, "quiet_s": seconds}
            storm_effort = _adapted(storm_.SHORT if short else storm_.FULL, given)
            result.settings = asdict(storm_effort)
            result.endpoints = storm_.storms(present, course, storm_effort, samples, watch)
        else:
            given |= {"seconds": seconds}
            effort = _adapted(handshake_.SHORT if short else handshake_.FULL, given)
            result.settings = asdict(effort)
            result.endpoints = handshake_.handshakes(present, course, effort, samples, watch)
    outputs.write(result)


def _adapted(effort: _Effort, given: Mapping[str, Any]) -> _Effort:
    """With what was given instead."""
    return replace(effort, **{name: value for name, value in given.items() if value is not None})


@main.command()
@click.option("--peers", type=click.IntRange(1, 65000), default=10_000, show_default=True,
              help="Over UDP.")  # fmt: skip
@click.option("--tcp-peers", type=click.IntRange(1, 25000), default=2000, show_default=True,
              help="Over TCP; no more than the hard limit of descriptors allows.")  # fmt: skip
@output_options
def memory(peers: int, tcp_peers: int, **options: Any) -> None:
    """What each peer, key and TCP connection takes; needs no privilege."""
    outputs = Outputs(**options)
    result = report.Report(machine.describe())
    result.settings = {"peers": peers, "tcp_peers": tcp_peers}
    with _watch() as watch:
        cases = memory_.memory_cases(peers=peers, tcp_peers=tcp_peers)
        result.memory = memory_.memory(cases, watch)
    outputs.write(result)


def _compare(
    result: report.Report,
    watch: scenarios.Watch,
    effort: scenarios.Effort,
    courses: Sequence[Course],
    subjects: Mapping[str, Subject],
) -> None:
    """Add the comparison to a report."""
    present = _present(result, list(subjects.values()), courses[0].transport)
    result.settings = {**asdict(effort), "courses": [course.name for course in courses]}
    for course in courses:
        if course.name in targets.IDLE_COURSES:
            scenarios.idle(present, course, effort, result.samples, watch)
    scenarios.compare(present, courses, effort, result.samples, watch)


def _present(result: report.Report, subjects: Sequence[_Entrant], transport: str) -> list[_Entrant]:
    """Those that can take part; who is not there is said so."""
    present = []
    for subject in subjects:
        if obstacle := subject.obstacle(transport):
            result.absent[subject.name] = obstacle
            continue
        present.append(subject)
        result.versions[subject.name] = subject.version()
        if caveat := subject.caveat():
            result.caveats[subject.name] = caveat
    return present


def _watch() -> ProgressDisplay:
    return ProgressDisplay(Console(stderr=True))
