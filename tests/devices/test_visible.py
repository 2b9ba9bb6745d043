"""CUDA_VISIBLE_DEVICES, value by value, as CUDA answers it."""

import pytest

from moebook.devices.nvml import Card, visible

A, B = Card("GPU-aa11-1", "A", 1), Card("GPU-aa22-2", "B", 2)
C = Card("GPU-cc33-3", "C", 3)
M1, M2 = Card("MIG-1111-1", "C 1g", 1), Card("MIG-2222-2", "C 2g", 1)
CUT = Card("GPU-cc33-3", "C", 3, (M1, M2))
EMPTY = Card("GPU-cc33-3", "C", 3, ())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, [A, B, C]),
        ("0", [A]),
        ("2", [C]),
        ("1,0", [B, A]),
        ("0, 2", [A, C]),
        (" 0", [A]),
        ("0 ", [A]),
        ("+1", [B]),
        ("", []),
        (",", []),
        (",0", []),
        ("0,", [A]),
        ("0,,1", [A]),
        ("-1", []),
        ("0,-1", [A]),
        ("0,-1,1", [A]),
        ("7", []),
        ("0,7,1", [A]),
        ("1,7,1", [B]),
        ("0,0", []),
        ("0,1,0", []),
        ("0,GPU-aa11-1", []),
        ("GPU-cc,2", []),
        ("GPU-aa22-2", [B]),
        ("GPU-aa2", [B]),
        ("GPU-cc", [C]),
        ("GPU-cc,0", [C, A]),
        (" GPU-cc ", [C]),
        ("GPU-aa", []),
        ("0,GPU-aa", [A]),
        ("GPU-", []),
        ("GPU-zz", []),
        ("0,GPU-zz", [A]),
        ("GPU-aa22-2-and-more", []),
        ("MIG-1111-1", []),
        ("abc", []),
        ("NoDevFiles", []),
        ("0x1", [A]),
        ("1abc", [B]),
        ("all", []),
    ],
)
def test_whole_cards(value, shown):
    assert list(visible(value, [A, B, C]).cards) == shown


@pytest.mark.parametrize(
    ("value", "cards", "shown"),
    [
        (None, [CUT], [M1]),
        (None, [A, CUT], [M1]),
        (None, [EMPTY], []),
        (None, [A, EMPTY], [A]),
        ("0", [CUT], [M1]),
        ("GPU-cc", [CUT], [M1]),
        ("MIG-2222-2", [CUT], [M2]),
        ("MIG-2", [CUT], [M2]),
        ("MIG-", [CUT], []),
        ("MIG-1,MIG-2", [CUT], [M1]),
        ("0,1", [A, CUT], [M1]),
        ("0", [A, CUT], [A]),
        ("0", [EMPTY], []),
        ("MIG-1,MIG-1", [CUT], []),
    ],
)
def test_cards_cut_into_instances(value, cards, shown):
    assert list(visible(value, cards).cards) == shown


@pytest.mark.parametrize("value", [None, "", "0", "GPU-aa"])
def test_a_machine_without_cards_shows_none(value):
    assert visible(value, []).cards == ()


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("0,0", "names a card twice"),
        ("0,-1", "ends at '-1'"),
        ("GPU-aa", "ends at 'GPU-aa'"),
        ("0,1", None),
        (None, None),
    ],
)
def test_what_hides_cards_is_told(value, note):
    told = visible(value, [A, B, C]).note
    assert told is None if note is None else note in told
