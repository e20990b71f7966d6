"""The router's tokenizer: ids, places in the text, and where it comes from."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from support.byte_tokenizer import BOS_ID, byte_tokenizer
from tgi_router.text.tokenizer import PromptTokenizer, TokenizerError

BYTES = PromptTokenizer(byte_tokenizer())


def test_special_tokens_are_added_only_on_request() -> None:
    with_special = BYTES.encode("héllo", add_special_tokens=True)
    assert with_special == [BOS_ID, *BYTES.encode("héllo", add_special_tokens=False)]
    assert len(with_special) == 1 + len("héllo".encode())


def test_added_special_tokens_stand_for_no_text() -> None:
    first = next(BYTES.encode_with_spans("hi", add_special_tokens=True))
    assert (first.id, first.text, first.start, first.stop) == (BOS_ID, "", 0, 0)


def test_spans_are_counted_in_bytes() -> None:
    tokenizer = Tokenizer(WordLevel({"né": 0, "日本": 1, "ok": 2}, unk_token="ok"))
    tokenizer.pre_tokenizer = Whitespace()
    spans = PromptTokenizer(tokenizer).encode_with_spans("né 日本 ok", add_special_tokens=False)
    assert [(span.text, span.start, span.stop) for span in spans] == [
        ("né", 0, 3),
        ("日本", 4, 10),
        ("ok", 11, 13),
    ]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_every_span_is_the_text_at_its_place(text: str) -> None:
    spans = list(BYTES.encode_with_spans(text, add_special_tokens=True))
    assert [span.id for span in spans] == BYTES.encode(text, add_special_tokens=True)
    for span in spans:
        assert text.encode()[span.start : span.stop].decode() == span.text


def test_padding_and_truncation_in_the_file_are_not_applied(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = PromptTokenizer.load(tmp_path)
    assert len(loaded.encode("abcdef", add_special_tokens=False)) == 6
    assert len(loaded.encode("a", add_special_tokens=False)) == 1


def test_threads_may_share_it() -> None:
    texts = [f"text number {number} " * 20 for number in range(40)]
    expected = [BYTES.encode(text, add_special_tokens=True) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: BYTES.encode(text, add_special_tokens=True), texts)) == expected


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a valid tokenizer"):
        PromptTokenizer.load(tmp_path)


def test_a_folder_without_any_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json, and none can be made"):
        PromptTokenizer.load(tmp_path)


@pytest.mark.slow
def test_files_of_an_older_tokenizer_are_converted_without_importing_torch_here(tmp_path: Path) -> None:
    """A WordPiece vocabulary alone, as old BERT models have it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    code = (
        "import sys; from pathlib import Path; from tgi_router.text.tokenizer import PromptTokenizer\n"
        f"tokenizer = PromptTokenizer.load(Path({str(tmp_path)!r}))\n"
        "print(tokenizer.encode('hello world', add_special_tokens=True))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[2, 5, 6, 3]"


@pytest.mark.slow
def test_files_that_cannot_be_converted_give_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    with pytest.raises(TokenizerError) as caught:
        PromptTokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)
