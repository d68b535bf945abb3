"""The names of stores: which one a URL gets, and where a claim's store is.

A claim names a store, and its reader must know the place by itself. So every URL that is given
to the command is remembered under the name that its claims carry, in `coatcheck/stores.json` in
the user's configuration folder. The file holds no secrets, since URLs do not.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coatcheck.cli.files import replace_file
from coatcheck.errors import ClaimRejected, ConfigError, printable
from coatcheck.payloads.claim import check_store_name
from coatcheck.settings import parse_url

DEFAULT_NAME = "default"
LONGEST_NAME = 128
HASH_CHARACTERS = 8

_FORMAT = 1


def default_url() -> str:
    """Return the URL of the default store: $COATCHECK_STORE, else a folder of the user's."""
    given = os.environ.get("COATCHECK_STORE")
    if given:
        return given
    return (_user_folder("XDG_DATA_HOME", ".local/share") / "coatcheck" / "store").as_uri()


def names_file() -> Path:
    """Return where the names are kept: $XDG_CONFIG_HOME/coatcheck/stores.json."""
    return _user_folder("XDG_CONFIG_HOME", ".config") / "coatcheck" / "stores.json"


def url_of(name: str) -> str:
    """Return where the store of that name is. Raises ClaimRejected for one that is not known."""
    if name == DEFAULT_NAME:
        return default_url()
    url = _read(names_file()).get(name)
    if url is None:
        raise ClaimRejected(
            f"the claim names the store {name!r}, which this user has never used",
            remedy="Say where it is with --from URL; after `coatcheck ls URL` it is known",
        )
    return url


def remember(url: str) -> str:
    """Return the name of the store at `url`, after making sure that `url_of` will find it.

    A place keeps its name; a new one gets the name of its bucket and prefix, or of its folder,
    so that it is called the same on other machines, unless another place has that name already.
    """
    path = names_file()
    with _locked(path):
        urls = _read(path)
        name = name_for(url, urls)
        if urls.get(name) != url:
            text = json.dumps({"version": _FORMAT, "stores": {**urls, name: url}}, indent=2)
            replace_file(path, [text.encode(), b"\n"], mode=0o600)
    return name


def name_for(url: str, urls: Mapping[str, str]) -> str:
    """Return the name of the store at `url` beside stores that have theirs: `urls`, by name."""
    place = _place(url)
    for name, known in urls.items():
        if _place(known) == place:
            return name
    name = _plain_name(url)
    if name == DEFAULT_NAME or name in urls:
        digest = hashlib.sha256("\n".join(place).encode()).hexdigest()
        name = f"{name[: LONGEST_NAME - 1 - HASH_CHARACTERS]}-{digest[:HASH_CHARACTERS]}"
    return check_store_name(name)


def _place(url: str) -> tuple[str, str, str, str]:
    """Return what tells two places apart: options such as timeouts do not."""
    location = parse_url(url)
    options = location.options
    endpoint = options.get("endpoint") or options.get("endpoint_url") or ""
    prefix = os.path.normpath(location.prefix) if location.scheme == "file" else location.prefix
    return location.scheme, location.bucket, prefix, endpoint.rstrip("/")


def _plain_name(url: str) -> str:
    location = parse_url(url)
    if location.scheme == "s3":
        name = f"{location.bucket}/{location.prefix}"
    else:
        name = os.path.basename(os.path.normpath(location.prefix))
    name = re.sub(r"[^a-z0-9._/-]+", "-", name.lower())[:LONGEST_NAME].strip("._/-")
    return name or "store"


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(path) from error
    stores = content.get("stores") if isinstance(content, dict) else None
    if not isinstance(stores, dict) or content.get("version") != _FORMAT:
        raise _damaged(path)
    if not all(isinstance(url, str) for url in stores.values()):
        raise _damaged(path)
    return stores


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        f"{printable(str(path))} does not hold names of stores",
        remedy="Remove it, and say where stores are with --from URL",
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file meanwhile. It is replaced, so it is not locked
    itself."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _user_folder(variable: str, below_home: str) -> Path:
    given = os.environ.get(variable, "")
    # Relative paths are to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
    return Path(given) if os.path.isabs(given) else Path.home() / below_home
