"""The corpus: the same twice, split by module, and clear about text that is none."""

import pytest

from moebook.models.tiny import corpus, own_text

FUNCTION = 'def f{}():\n    """Adds {} things, slowly and with care."""\n    return thing + other\n'
PROSE = "\n\n".join(FUNCTION.format(i, i) for i in range(80))


@pytest.fixture(scope="module")
def documents():
    return corpus.stdlib(0.02)


@pytest.fixture
def library(tmp_path):
    """A small standard library: modules of code, tables of numbers, things that are left out."""
    for i in range(40):
        (tmp_path / f"module{i}.py").write_text(f"# module {i}\n" + PROSE)
    (tmp_path / "table.py").write_text("t = (" + ", ".join(map(str, range(400))) + ")\n")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    for folder in ("test", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "left_out.py").write_text(PROSE)
    return tmp_path


def test_the_same_python_gives_the_same_corpus(documents):
    assert documents == corpus.stdlib(0.02)
    assert corpus.sample(corpus.side(documents, True)) == corpus.sample(
        corpus.side(documents, True)
    )


def test_no_module_lies_on_both_sides(documents):
    train, held = ({d.module for d in documents if d.held_out == out} for out in (False, True))
    assert train and held and not train & held
    assert {d.domain for d in documents if d.held_out} == {"code", "prose", "numbers"}


def test_a_share_takes_fewer_training_modules_and_all_held_out_ones(library):
    few, all_of_them = corpus.stdlib(0.3, library), corpus.stdlib(1, library)
    assert {d.module for d in few if d.held_out} == {d.module for d in all_of_them if d.held_out}
    assert 0 < sum(not d.held_out for d in few) < sum(not d.held_out for d in all_of_them)


def test_what_is_left_out(library):
    modules = {d.module for d in corpus.stdlib(1, library)}
    assert "latin.py" not in modules and not any("/" in m for m in modules)
    assert {d.domain for d in corpus.stdlib(1, library) if d.module == "table.py"} == {"numbers"}


def test_about_eight_of_a_hundred_are_held_out():
    held = sum(corpus.Document(f"package/module{i}.py", "code", "").held_out for i in range(5000))
    assert 0.07 < held / 5000 < 0.09


def test_docstrings_go_to_prose():
    source = (
        '"""Module."""\nx = 1\n\n\ndef f():\n    r"""Says\n    so."""\n    return "kept"\n\n\n'
        'def g(): "inline"\n'
    )
    code, prose = corpus.split_docstrings(source)
    assert prose == "Module.\n\nSays\nso."
    assert code == '\nx = 1\n\n\ndef f():\n    return "kept"\n\n\ndef g(): "inline"\n'.lstrip("\n")


def test_source_that_does_not_parse_is_code():
    assert corpus.split_docstrings("print 'old'\n") == ("print 'old'\n", "")


def test_the_head_of_the_mixed_text_holds_the_domains_in_their_shares():
    texts = {"code": ["c\n" * 9000], "prose": ["p\n" * 9000], "numbers": ["1\n" * 9000]}
    mixed = corpus.sample(texts)["all"]
    head = mixed[:12_000]
    for domain, letter in (("code", "c"), ("prose", "p"), ("numbers", "1")):
        assert head.count(letter) / 6000 == pytest.approx(corpus.MIX[domain], abs=0.12)


def test_user_text_is_one_domain_split_by_paragraph(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {i} of a text\n" for i in range(20_000)))
    found = own_text.documents([tmp_path / "a.txt"])
    assert {d.domain for d in found} == {"all"}
    assert 0 < sum(d.held_out for d in found) < len(found) / 4
    assert "".join(d.text for d in found) == (tmp_path / "a.txt").read_text()


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "is empty"),
        (b"   \n\n ", "is empty"),
        (b"ab\0cd", "binary file"),
        (b"caf\xe9 au lait", "no UTF-8 text"),
    ],
)
def test_text_that_is_none(tmp_path, data, said):
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(corpus.CorpusError, match=said):
        own_text.documents([tmp_path / "x.txt"])


def test_a_missing_text_and_an_empty_library(tmp_path):
    with pytest.raises(corpus.CorpusError, match="there is no file"):
        own_text.documents([tmp_path / "none.txt"])
    with pytest.raises(corpus.CorpusError, match="too few to train on"):
        corpus.stdlib(1, tmp_path)


@pytest.mark.parametrize("length", [300, 6000])
def test_a_text_shorter_than_a_window(tmp_path, length):
    (tmp_path / "x.txt").write_text("".join(f"number {i}\n" for i in range(length)))
    with pytest.raises(corpus.CorpusError, match="x.txt: .*give a longer text"):
        corpus.prepare(
            tmp_path / "corpus",
            own_text.documents([tmp_path / "x.txt"]),
            "x.txt",
            vocab_size=300,
            window=4096,
        )
    assert not (tmp_path / "corpus").exists()


def test_the_tokenizer_gives_every_text_back_and_is_the_same_twice(documents):
    texts = [d.text for d in documents if not d.held_out][:20]
    one, two = (corpus.train_tokenizer(texts, 512) for _ in range(2))
    strange = "def f(x):\n    return 'é→\t日本'  # \x07\n"
    assert one.decode(one(strange)["input_ids"]) == strange
    assert one.get_vocab() == two.get_vocab() and len(one) == 512
    assert one.eos_token_id == one.pad_token_id == 0
