"""Files whose keys and types are checked when they are read, with one sentence on what is wrong."""

import reprlib
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from peace.errors import InputError, did_you_mean


def broken_rule(sentence: str) -> PydanticCustomError:
    """Returns the error that a validator raises for a rule that types cannot say; braces in it are kept."""
    return PydanticCustomError("broken_rule", "{sentence}", {"sentence": sentence})


class Checked(BaseModel):
    """A mapping in a file: known keys only, no conversion between types, finite numbers."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise broken_rule(f"unknown key '{key}' ({did_you_mean(str(key), cls.model_fields)})")
        return data

    @classmethod
    def parse(cls, content: object, where: object) -> Self:
        """Returns the checked form of `content`.

        Args:
            content: JSON as bytes, or a plain mapping.
            where: The file that `content` came from, for the message.

        Raises:
            InputError: A key is missing or unknown, a value has the wrong type, or a number is not finite.
        """
        try:
            return cls.model_validate_json(content) if isinstance(content, bytes) else cls.model_validate(content)
        except ValidationError as error:
            raise _refusal(error, where) from error


def _refusal(error: ValidationError, where: object) -> InputError:
    first = error.errors(include_url=False)[0]
    *outer, last = ["", *map(str, first["loc"])]
    inside = f"'{'.'.join(outer[1:])}' of {where}" if outer[1:] else where
    match first["type"]:
        case "broken_rule":
            place = ".".join([*outer[1:], last] if outer else [])
            return InputError(first["msg"], where=f"'{place}' of {where}" if place else where)
        case "missing":
            return InputError(f"missing key '{last}'", where=inside)
        case "json_invalid":
            return InputError("unreadable file", where=where, got=first["msg"])
    return InputError(
        f"wrong value of '{last}'" if last else "wrong content",
        where=inside,
        got=reprlib.repr(first["input"]),
        expected=first["msg"].removeprefix("Input should be ").partition(" or instance of ")[0],
    )
