"""At which scale the rows of a table were run, as their records' notes say under `scale`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from peace.reporting.record import Amount, Record

_Scale = Mapping[str, str]


def run_at(rows: Iterable[tuple[str, Sequence[Record]]]) -> Iterator[str]:
    """Yields what all rows have in common, then what those have that differ; nothing where no record says anything.

    Args:
        rows: The printed name and the records of each row; rows of different blocks may share a name.
    """
    scales = [(name, _scale(records)) for name, records in rows]
    first = scales[0][1] if scales else {}
    common = {key: text for key, text in first.items() if all(scale.get(key) == text for _, scale in scales)}
    if common:
        yield f"Run at: {_listed(common)}."
    others: dict[str, dict[str, None]] = {}
    for name, scale in scales:
        if rest := {key: text for key, text in scale.items() if key not in common}:
            others.setdefault(_listed(rest), {})[name] = None
    yield from (f"{', '.join(names)}, run at: {text}." for text, names in others.items())


def _scale(records: Sequence[Record]) -> _Scale:
    """Each name's value over the seeds of a row: one text, or from the least to the largest where they differ."""
    values: dict[str, list[Amount]] = {}
    for record in records:
        for name, value in record.scale.items():
            values.setdefault(name, []).append(value)
    return {name: _spread(given) for name, given in values.items()}


def _spread(values: Sequence[Amount]) -> str:
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        return ", ".join(dict.fromkeys(map(_text, values)))
    return " to ".join(dict.fromkeys(map(_text, (min(numbers), max(numbers)))))


def _text(value: Amount) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _listed(scale: _Scale) -> str:
    return ", ".join(f"{name} {text}" for name, text in scale.items())
