"""Errors: one sentence for a person, and the exit code of the command line."""

import pickle

import pytest

from peace.errors import InputError, PeaceError, did_you_mean


def test_the_sentence_says_what_where_got_expected_and_what_to_do() -> None:
    error = InputError("wrong size", where="a.npz", got=3, expected=4, do="download it again")
    assert str(error) == "wrong size in a.npz: got 3, expected 4; download it again."


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "wrong size."),
        ({"where": "a.npz"}, "wrong size in a.npz."),
        ({"got": 0}, "wrong size: got 0."),
        ({"expected": False}, "wrong size: expected False."),
        ({"do": "stop"}, "wrong size; stop."),
        ({"do": "did you mean 'right'?"}, "wrong size; did you mean 'right'?"),
    ],
)
def test_what_is_not_given_leaves_no_trace(parts: dict[str, object], sentence: str) -> None:
    assert str(InputError("wrong size", **parts)) == sentence  # type: ignore[arg-type]


def test_exit_codes_are_1_for_failures_and_2_for_input() -> None:
    assert (PeaceError.exit_code, InputError.exit_code) == (1, 2)
    assert issubclass(InputError, PeaceError)


def test_an_error_comes_back_whole_from_another_process() -> None:
    error = InputError("wrong size", where="a.npz", do="did you mean 'b.npz'?")
    for original in (error, InputError("wrong size")):
        again = pickle.loads(pickle.dumps(original))
        assert type(again) is InputError and str(again) == str(original)


@pytest.mark.parametrize(
    ("word", "known", "advice"),
    [
        ("layer_gmn", ["flat", "layer_gnn"], "did you mean 'layer_gnn'?"),
        ("zzz", ["flat", "affine"], "choose from affine, flat"),
        ("zzz", [], "choose from nothing"),
    ],
)
def test_the_nearest_word_is_offered_or_else_all_of_them(word: str, known: list[str], advice: str) -> None:
    assert did_you_mean(word, iter(known)) == advice
