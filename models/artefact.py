"""Reading what a fitted model left on disk; what is wrong with it is said without saying where it lies."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from models.scoring import ArtefactError

Form = TypeVar("Form", bound=BaseModel)


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
