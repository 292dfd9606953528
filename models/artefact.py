"""What a fitted model leaves on disk, and reading it; what is wrong with it is said without saying where it lies."""

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from models.scoring import ArtefactError

WEIGHTS, TRIAL, CURVE = "weights.safetensors", "trial.safetensors", "loss.png"
CARD, CARD_TEXT = "card.json", "card.md"
Form = TypeVar("Form", bound=BaseModel)


class Name(BaseModel):
    """What every card says, of whatever form it is."""

    version: str
    last_week: str


def read_bytes(path: Path) -> bytes:
    """The bytes of an artefact's file.

    Raises:
        ArtefactError: naming the file, without its folder.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as cause:
        raise ArtefactError(f"{path.name} is missing") from cause
    except OSError as cause:
        raise ArtefactError(f"{path.name} cannot be read: {type(cause).__name__}") from cause


def read_json(path: Path, form: type[Form]) -> Form:
    """The value of a JSON file.

    Raises:
        ArtefactError: the file is missing, no JSON, or holds something else than the form asks for.
    """
    try:
        return form.model_validate_json(read_bytes(path))
    except ValidationError as cause:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in cause.errors()]
        raise ArtefactError(f"{path.name} is not a {form.__name__}: {'; '.join(faults)}") from cause


def version_of(last_week: str, weights: bytes) -> str:
    """The last week learned from and a hash of the weights.

    >>> version_of("2023-W09", b"")
    '2023-W09-e3b0c442'
    """
    return f"{last_week}-{hashlib.sha256(weights).hexdigest()[:8]}"


def learned_until(version: str) -> str:
    """The last week that a version has learned from, by its name.

    >>> learned_until("2023-W09-e3b0c442")
    '2023-W09'
    """
    return version.rpartition("-")[0]


def check_content(folder: Path) -> None:
    """Make sure that a folder holds the version that it is named after.

    Raises:
        ArtefactError: a file is missing or broken, or the weights are those of another version, or the card is.
    """
    name = read_json(folder / CARD, Name)
    if name.version != folder.name:
        raise ArtefactError(f"{CARD} is of version {name.version!r}, not of {folder.name!r}")
    if version_of(name.last_week, read_bytes(folder / WEIGHTS)) != name.version:
        raise ArtefactError(f"{WEIGHTS} is not the file that {CARD} describes as version {name.version}")
