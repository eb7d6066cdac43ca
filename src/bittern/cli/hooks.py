"""`bittern hooks`: what became of deliveries, and telling one again. Works with and without a running daemon."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from bittern.cli.configuration import HELP, configuration

if TYPE_CHECKING:
    from bittern.daemon.deliveries import Delivery
    from bittern.daemon.spool import Spool

EX_NOINPUT: Final = 66
EX_IOERR: Final = 74

DAY_S: Final = 24 * 3600.0


def _with_spool(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
        "spool",
        metavar="FILE",
        callback=lambda _ctx, _param, value: _spool_of(value),
        help=HELP,
    )(command)


@click.group(epilog="Example: bittern hooks list")
def hooks() -> None:
    """Deliveries to hooks: what is pending, done, or was given up (dead).

    Exit status 66 when there is no delivery of that ID, 74 when the state folder cannot be used, 78 when the
    configuration cannot.
    """


@hooks.command("list", epilog="Example: bittern hooks list --state dead")
@_with_spool
@click.option("--state", type=click.Choice(["pending", "done", "dead"]), help="Only those.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of objects, for programs.")
def list_deliveries(spool: "Spool", state: str | None, as_json: bool) -> None:
    """List deliveries, oldest first."""
    found = [
        (where, path, delivery) for where, path, delivery in _read(spool) if state is None or where == state
    ]
    if as_json:
        from bittern.daemon.outcomes import delivery_told

        told = [delivery_told(where, path.stem, one) for where, path, one in found]
        click.echo(json.dumps(told, indent=2))
        return
    from bittern.cli.terminal import print_table

    print_table(
        ("id", "state", "event", "time", "tries", "name"),
        (
            (
                path.stem,
                where,
                one.event,
                _time(one.at_wall),
                str(max((run.attempts for run in one.runs), default=0)),
                one.facts.name,
            )
            for where, path, one in found
        ),
        right=("tries",),
    )


@hooks.command(epilog="Example: bittern hooks show 0199d1f2")
@_with_spool
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.argument("id_", metavar="ID")
def show(spool: "Spool", as_json: bool, id_: str) -> None:
    """Show one delivery and what its hooks printed. The beginning of its ID will do."""
    where, path, delivery = _find(spool, id_)
    if as_json:
        from bittern.daemon.outcomes import delivery_told

        click.echo(json.dumps(delivery_told(where, path.stem, delivery), indent=2))
        return
    from bittern.cli.terminal import print_facts

    facts = [
        ("id", path.stem),
        ("state", where),
        ("event", delivery.event),
        ("time", _time(delivery.at_wall)),
        ("reason", delivery.reason),
        ("torrent", f"{delivery.facts.name}\n{delivery.facts.info_hash.hex()}"),
        ("path", delivery.facts.path),
    ]
    for run in delivery.runs:
        became = "told" if run.done else "given up" if run.dead else "waiting"
        last = f", last exit status {run.exit_status} at {_time(run.ended_wall)}" if run.ended_wall else ""
        due = f", next try not before {_time(run.due_wall)}" if run.due_wall and not run.settled else ""
        facts += [
            ("hook", run.target),
            ("", ""),
            ("", f"{became} after {run.attempts} tries{last}{due}"),
            ("output", run.output),
        ]
    print_facts(facts)


@hooks.command(epilog="Example: bittern hooks replay --dead")
@_with_spool
@click.option("--dead", is_flag=True, help="All that were given up.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
def replay(spool: "Spool", dead: bool, as_json: bool, ids: tuple[str, ...]) -> None:
    """Tell deliveries again that are over: at once if the daemon runs, else when it starts.

    The event's id stays the same, its attempts are counted on. Of a delivery in which some hooks were given up only
    these are run.
    """
    if not ids and not dead:
        raise click.UsageError("Name the IDs of deliveries, or --dead.")
    chosen = [_find(spool, one) for one in ids]
    if dead:
        chosen += [one for one in _read(spool) if one[0] == "dead"]
    asked: list[str] = []
    for where, path, _ in chosen:
        if where == "pending":
            click.echo(f"{path.stem}: is pending, and will be told by itself", err=True)
            continue
        try:
            spool.ask_replay(path.stem)
        except OSError as error:
            _unusable(error)
        asked.append(path.stem)
        if not as_json:
            click.echo(path.stem)
    if as_json:
        click.echo(json.dumps(asked))


@hooks.command(epilog="Example: bittern hooks purge --dead --older-than 7")
@_with_spool
@click.option("--dead", is_flag=True, help="Also those that were given up.")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="DAYS",
    help="Only those that ended so long ago.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
def purge(spool: "Spool", dead: bool, days: float, as_json: bool) -> None:
    """Delete deliveries that are done. Pending ones are never deleted."""
    before = time.time() - days * DAY_S
    try:
        count = sum(spool.purge(state, before) for state in ("done", *(["dead"] if dead else [])))
    except OSError as error:
        _unusable(error)
    click.echo(json.dumps({"deleted": count}) if as_json else f"{count} deleted")


def _spool_of(config: str | None) -> "Spool":
    from bittern.daemon.spool import Spool

    return Spool.below(Path(configuration(config).paths.state))


def _read(spool: "Spool") -> "Iterator[tuple[str, Path, Delivery]]":
    """Those that can be read; a word about the others."""
    from bittern.daemon.deliveries import DeliveryError, load_delivery

    try:
        for where, path in spool.paths():
            try:
                yield where, path, load_delivery(path.read_bytes())
            except FileNotFoundError:
                continue  # the daemon was quicker
            except DeliveryError as error:
                click.echo(f"{path}: {error}", err=True)
    except OSError as error:
        _unusable(error)


def _find(spool: "Spool", beginning: str) -> "tuple[str, Path, Delivery]":
    found = [one for one in _read(spool) if one[1].stem.startswith(beginning)]
    exact = [one for one in found if one[1].stem == beginning]
    if len(exact or found) != 1:
        what = f"{len(found)} deliveries begin so: write more of the ID" if found else "no such delivery"
        click.echo(f"{beginning}: {what}", err=True)
        sys.exit(EX_NOINPUT)
    return (exact or found)[0]


def _unusable(error: OSError) -> NoReturn:
    click.echo(f"{error.filename}: {error.strerror}; run this as the user that bittern runs as", err=True)
    sys.exit(EX_IOERR)


def _time(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
