"""The commands: what they take, what they do, and the help that says so."""

import json
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from typing import Annotated

import typer

from coatcheck.cli import names, units
from coatcheck.cli.failures import EXIT_CODES_HELP, FAILED, reported
from coatcheck.cli.files import STANDARD, Target, check_limit, payload_source, read_claim
from coatcheck.cli.jsonlines import JsonLines
from coatcheck.cli.meter import Meter
from coatcheck.cli.output import Output
from coatcheck.cli.stores import examine_place, open_store
from coatcheck.cli.sweep import sweep
from coatcheck.cli.text import Words
from coatcheck.cli.volume import app as volume_app
from coatcheck.errors import CoatcheckError, ConfigError, Corrupt
from coatcheck.objects.doctor.finding import Verdict
from coatcheck.payloads.claim import MAX_SIZE_BYTES, Claim
from coatcheck.payloads.store import DEFAULT_MAX_PAYLOAD_BYTES, StoredPayload
from coatcheck.results.rules import DAY_SECONDS, lifecycle_rule
from coatcheck.settings import parse_url

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES_HELP,
)
app.add_typer(volume_app, name="volume")
app.command()(sweep)

ClaimArgument = Annotated[
    str,
    typer.Argument(metavar="CLAIM", help="The claim; @FILE or - reads it from there."),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="URL", help="Where the payload is, whatever the claim says."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Output, and errors, for programs.")]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--max-payload-bytes",
        metavar="N",
        min=1,
        show_default=False,
        help="The largest payload; if not given, any, but 1 GiB where it is held in memory.",
    ),
]
UrlArgument = Annotated[
    str | None,
    typer.Argument(metavar="URL", show_default=False, help="The store; else the default one."),
]


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        print(f"coatcheck {version('coatcheck')}")
    except PackageNotFoundError:
        print("coatcheck, not installed but run from its sources")
    raise typer.Exit


@app.callback()
def coatcheck(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hand over your payload, keep the claim.

    A payload is stored once, under its digest; the claim, a line of JSON, stands for it anywhere
    and gets it back, verified.

    \b
      coatcheck put report.pdf > claim
      coatcheck get @claim -o copy.pdf

    Stores are URLs: file:///path, or s3://bucket/prefix?region=...&endpoint=... with the settings
    of an S3 server as options. Without one, $COATCHECK_STORE is used, else a folder in
    ~/.local/share/coatcheck. Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    the like, or from wherever AWS programs find them; never from a URL.
    """


@app.command()
def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What to store; - for stdin.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="The store; else the default one.")
    ] = None,
    max_payload_bytes: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a file of any size and print its claim.

    The claim is printed once the payload is durably stored. It names the store, and `get` finds
    that again for this user.

    \b
      coatcheck put report.pdf
      coatcheck put report.pdf --to 's3://my-bucket/reports?region=eu-west-1'
      pg_dump app | coatcheck put - > claim
    """
    output = _output(as_json)
    with reported(output):
        with Meter() as meter:
            url = to or names.default_url()
            store = open_store(
                url,
                name=names.DEFAULT_NAME,
                max_payload_bytes=max_payload_bytes or MAX_SIZE_BYTES,
                meter=meter,
            )
            # A bucket counts what has arrived there; a folder what was read for it.
            reading = Meter() if parse_url(url).scheme == "s3" else meter
            with payload_source(file, max_payload_bytes, reading) as source:
                meter.begin("Storing", source.size_bytes)
                claim = store.put_stream(source)
        if to is not None:
            claim = replace(claim, store=_remembered(to, output))
        output.stored(claim, store.location)


@app.command()
def get(
    claim: ClaimArgument,
    to_file: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write there; - for stdout."),
    ] = None,
    from_url: FromOption = None,
    max_payload_bytes: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the payload that a claim stands for.

    Nothing is written that was not verified, and a file is written whole or not at all. Memory
    is bounded, whatever the size, except on a terminal, and for standard output with a claim
    without part digests: there the payload is held until all of it is verified.

    \b
      coatcheck get @claim -o report.pdf
      coatcheck get '{"coatcheck":1,"digest":...}' | tar tz
      coatcheck get - --from 's3://my-bucket/reports' -o report.pdf < claim
    """
    output = _output(as_json)
    with reported(output):
        wanted = Claim.parse(read_claim(claim))
        target = Target(to_file)
        with Meter() as meter:
            store = open_store(
                from_url or names.url_of(wanted.store),
                name=wanted.store,
                max_payload_bytes=max_payload_bytes or DEFAULT_MAX_PAYLOAD_BYTES,
                meter=meter,
            )
            check_limit(wanted.size_bytes, max_payload_bytes)
            meter.begin(f"Fetching {units.size(wanted.size_bytes)}", wanted.size_bytes)
            is_held = target.wants_all_at_once or (target.shows_beginnings and wanted.parts is None)
            if is_held:
                parts: Iterable[bytes] = [store.get(wanted)]
            else:
                target.write(store.stream(wanted))
        if is_held:
            # After the meter, which must not draw over what a terminal shows.
            target.write(parts)
        if to_file is not None and to_file != STANDARD:
            output.fetched(wanted, to_file)


@app.command()
def ls(url: UrlArgument = None, as_json: JsonOption = False) -> None:
    """List the payloads in a store, in order of their digests.

    \b
      coatcheck ls
      coatcheck ls 's3://my-bucket/reports' --json | jq -c .claim
    """
    output = _output(as_json)
    with reported(output):
        with Meter() as meter:
            store = open_store(
                url or names.default_url(),
                name=names.DEFAULT_NAME,
                max_payload_bytes=MAX_SIZE_BYTES,
                meter=meter,
            )
            meter.begin(f"Listing {store.location}")
            payloads = store.list()
            first = list(islice(payloads, 1))
        found: Iterable[StoredPayload] = chain(first, payloads)
        if url is not None:
            name = _remembered(url, output)
            found = (replace(it, claim=replace(it.claim, store=name)) for it in found)
        output.listed(found, store.location)


@app.command()
def stat(claim: ClaimArgument, from_url: FromOption = None, as_json: JsonOption = False) -> None:
    """Show what is known about a payload, without fetching it.

    Fails if it is not there (3), or is not as large as the claim says (5).

    \b
      coatcheck stat @claim
    """
    output = _output(as_json)
    with reported(output):
        wanted = Claim.parse(read_claim(claim))
        with Meter() as meter:
            store = open_store(
                from_url or names.url_of(wanted.store),
                name=wanted.store,
                max_payload_bytes=MAX_SIZE_BYTES,
                meter=meter,
            )
            meter.begin(f"Asking {store.location}")
            info = store.stat(wanted)
        if info.size_bytes != wanted.size_bytes:
            raise Corrupt(
                f"the object {info.key} in {store.location} has {info.size_bytes} bytes,"
                f" the claim says {wanted.size_bytes}"
            )
        output.described(wanted, info, store.location)


@app.command()
def doctor(url: UrlArgument = None, as_json: JsonOption = False) -> None:
    """Find out what works in a store and what does not.

    Tries with your own credentials all that coatcheck needs, on scratch objects under
    .coatcheck-doctor/, which are removed again. Exits with 1 if there is a problem.

    \b
      coatcheck doctor 's3://my-bucket/reports?endpoint=https://s3.example.com'
    """
    output = _output(as_json)
    with reported(output):
        place = url or names.default_url()
        with Meter() as meter:
            findings = examine_place(place, meter)
        output.examined(findings, place)
        if any(finding.verdict is Verdict.PROBLEM for finding in findings):
            raise typer.Exit(FAILED)


@app.command()
def lifecycle(
    url: Annotated[str, typer.Argument(metavar="URL", help="The place of the results.")],
    days: Annotated[
        float,
        typer.Option("--days", metavar="N", help="How long a result is kept; Celery's default."),
    ] = 1.0,
) -> None:
    """Print the bucket rule that removes expired results on the server.

    It does what the backend's daily cleanup does, without a worker. Applying it takes the place of
    the bucket's whole lifecycle configuration: merge it with what is there. Sends nothing.

    \b
      coatcheck lifecycle 's3://my-bucket/celery' --days 7 > rule.json
      aws s3api put-bucket-lifecycle-configuration --bucket my-bucket \\
        --lifecycle-configuration file://rule.json
    """
    with reported(_output(False)):
        place = parse_url(url)
        if place.scheme != "s3":
            raise ConfigError(
                "only a bucket has lifecycle rules", remedy="Give an s3://bucket/prefix URL"
            )
        prefix = f"{place.prefix}/" if place.prefix else ""
        print(json.dumps(lifecycle_rule(prefix, expires_in_seconds=days * DAY_SECONDS), indent=2))


def _output(as_json: bool) -> Output:
    return JsonLines() if as_json else Words()


def _remembered(url: str, output: Output) -> str:
    """Return the name for claims of the store at `url`, remembered if that can be."""
    try:
        return names.remember(url)
    except (OSError, CoatcheckError) as error:
        # The payload is stored: its claim must not be lost for want of a note.
        output.warned(f"the store's name could not be noted ({error}); read with --from URL")
        return names.name_for(url, {})
