"""The commands for trees of files: `coatcheck volume ls|cp|rm|du`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

import typer

from coatcheck.cli import units
from coatcheck.cli.failures import reported
from coatcheck.cli.folders import Folder
from coatcheck.cli.jsonlines import JsonLines
from coatcheck.cli.meter import Meter, MeteredWire
from coatcheck.cli.text import Words
from coatcheck.errors import ConfigError, NotFound, printable
from coatcheck.objects.opening import Backend, open_on
from coatcheck.runtime.blocking import BLOCKING, iterate
from coatcheck.settings import parse_url
from coatcheck.volumes.copying import CopiedFile, CopySummary
from coatcheck.volumes.paths import below
from coatcheck.volumes.volume import Volume
from coatcheck.wire.blocking import BlockingWire

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Trees of files in a bucket or a folder: list, copy, delete, measure.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

JsonOption = Annotated[bool, typer.Option("--json", help="Output, and errors, for programs.")]
PlaceArgument = Annotated[
    str, typer.Argument(metavar="URL", help="s3://bucket/path or file:///path, or a local path.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL or a local path names: a volume, and a path in it, "" for all of it."""

    volume: Volume
    path: str
    local: Path | None


@app.command()
def ls(place: PlaceArgument, as_json: JsonOption = False) -> None:
    """List the files at and below a path: size, time and path of each.

    \b
      coatcheck volume ls s3://my-bucket/runs/42
    """
    with _metered(as_json) as meter:
        tree = _opened(place, meter)
        meter.begin(f"Listing {tree.volume.location}")
        for path, file in iterate(tree.volume.walk(tree.path)):
            info = BLOCKING.run(file.info())
            modified = (
                info.last_modified.isoformat(timespec="seconds") if info.last_modified else ""
            )
            if as_json:
                _print_json(path=path, size_bytes=info.size_bytes, last_modified=modified or None)
            else:
                size = units.size(info.size_bytes)
                print(f"{size:>12}  {modified:25}  {printable(path)}")


@app.command()
def cp(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A URL or a local path.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A URL or a local path.")],
    skip_same: Annotated[
        bool, typer.Option("--skip-same", help="Leave files that are there with the same bytes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a file, or a folder with all that is in it, to TARGET.

    TARGET names the copy itself; a file goes into a TARGET that ends with a slash. Between buckets
    of one server, no bytes pass through here. A copy that was cut off goes on with --skip-same.

    \b
      coatcheck volume cp results s3://my-bucket/runs/42/results
      coatcheck volume cp s3://my-bucket/runs/42/results/plot.png ./
    """
    with _metered(as_json) as meter:
        here, there = _opened(source, meter), _opened(target, meter)
        goal = there.path
        if target.endswith("/") and here.path and _is_file(here):
            goal = f"{goal}/{Path(here.path).name}".strip("/")
        meter.begin(f"Copying {source} to {target}")
        notice = _tell_json if as_json else None
        if there.local is not None:
            folder = Folder(there.local if goal == there.path else there.local / Path(goal).name)
            summary = BLOCKING.run(
                folder.receive(here.volume, here.path, skip_same=skip_same, notice=notice)
            )
        else:
            summary = BLOCKING.run(
                here.volume.copy_to(
                    there.volume, here.path, to=goal, skip_same=skip_same, notice=notice
                )
            )
    if not as_json:
        print(_told(summary))


@app.command()
def rm(
    place: PlaceArgument,
    everything: Annotated[
        bool, typer.Option("--everything", help="Needed to empty a whole bucket.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the file at a path and all files below it; none is no failure.

    \b
      coatcheck volume rm s3://my-bucket/runs/42
    """
    with _metered(as_json) as meter:
        tree = _opened(place, meter)
        if tree.path == "" and not everything:
            raise ConfigError(
                f"{place} is a whole bucket: everything there would be deleted",
                remedy="Give --everything if that is meant to be, or a path in it",
            )
        meter.begin(f"Deleting {place}")
        volume, path = tree.volume, tree.path
        count = BLOCKING.run(volume.delete(path) if path else volume.erase(confirm=True))
    if as_json:
        _print_json(deleted=count)
    else:
        print(f"{units.count(count, 'file')} deleted")


@app.command()
def du(
    place: PlaceArgument,
    depth: Annotated[int, typer.Option("--depth", min=0, help="Folders shown below the top.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Show how many files and bytes are in each folder, as a tree.

    \b
      coatcheck volume du s3://my-bucket/runs --depth 1
    """
    totals: dict[str, list[int]] = {"": [0, 0]}
    with _metered(as_json) as meter:
        tree = _opened(place, meter)
        meter.begin(f"Listing {tree.volume.location}")
        for path, file in iterate(tree.volume.walk(tree.path)):
            size_bytes = BLOCKING.run(file.size())
            folders = below(tree.path, path).split("/")[:-1][:depth]
            for level in range(len(folders) + 1):
                total = totals.setdefault("/".join(folders[:level]), [0, 0])
                total[0] += 1
                total[1] += size_bytes
    if as_json:
        for folder, (count, size_bytes) in sorted(totals.items()):
            _print_json(folder=folder, files=count, size_bytes=size_bytes)
        return
    children: dict[str, list[str]] = {}
    for folder in sorted(totals):
        if folder:
            children.setdefault(folder.rpartition("/")[0], []).append(folder)
    _print_branch("", place, "", "", totals, children)


def _print_branch(
    folder: str,
    name: str,
    stem: str,
    indent: str,
    totals: dict[str, list[int]],
    children: dict[str, list[str]],
) -> None:
    count, size_bytes = totals[folder]
    print(
        f"{units.size(size_bytes):>12}  {units.count(count, 'file'):>14}  {stem}{printable(name)}"
    )
    below_it = children.get(folder, [])
    for child in below_it:
        is_last = child == below_it[-1]
        _print_branch(
            child,
            f"{child.rpartition('/')[2]}/",
            f"{indent}{'└── ' if is_last else '├── '}",
            f"{indent}{'    ' if is_last else '│   '}",
            totals,
            children,
        )


@contextmanager
def _metered(as_json: bool) -> Iterator[Meter]:
    with reported(JsonLines() if as_json else Words()), Meter() as meter:
        yield meter


def _opened(text: str, meter: Meter) -> Place:
    """Open what `text` names; `meter` counts what is sent and received. No I/O."""
    if "://" not in text:
        return _opened(Path(text).absolute().as_uri(), meter)
    location = parse_url(text)
    if location.scheme == "memory":
        raise ConfigError(
            "what is stored in memory:// is gone when the command ends",
            remedy="Use file:///path or s3://bucket",
        )
    backend = Backend(BLOCKING, lambda settings: MeteredWire(BlockingWire(settings), meter))
    if location.scheme == "file":
        # A folder is looked at from the one above it, so that a file can be named as well.
        local = Path(location.prefix)
        return Place(Volume(open_on(backend, local.parent.as_uri(), {})), local.name, local)
    bucket = urlunsplit(urlsplit(text)._replace(path=""))
    return Place(Volume(open_on(backend, bucket, {})), location.prefix, None)


def _is_file(place: Place) -> bool:
    try:
        BLOCKING.run(place.volume.load(place.path).size())
    except NotFound:
        return False
    return True


def _told(summary: CopySummary) -> str:
    there = f", {summary.files_already_there} were there" if summary.files_already_there else ""
    return f"{units.count(summary.files, 'file')} copied, {units.size(summary.size_bytes)}{there}"


def _tell_json(copied: CopiedFile) -> None:
    _print_json(path=copied.path, size_bytes=copied.size_bytes, was_there=copied.was_there)


def _print_json(**values: object) -> None:
    print(json.dumps(values, ensure_ascii=True))
