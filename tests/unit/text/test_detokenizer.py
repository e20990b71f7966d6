"""Incremental text against the text of one decode."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tgi_shard.text.detokenizer import IncrementalDetokenizer
from tgi_shard.text.tokenizer import ShardTokenizer, load_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It doesn't, says Émile; 12 + 7 = 19!",
    "漢字かな交じり文と絵文字🎉👍🏽👩‍👩‍👧‍👦を混ぜる。漢字漢字 かなかな🎉🎉🎉",
    "Ünïcödé naïve café — “quotes” … and   spaces\n\n\ttabs",
] * 20

TRAINED_SIZE = 420
BEYOND_ALL = TRAINED_SIZE + 5  # no tokenizer here has as many tokens

# Few letters, so that merges apply, and characters of every length in UTF-8.
letters = st.one_of(st.sampled_from("the quick é漢字🎉 \n\ufffd▁"), st.characters(codec="utf-8"))
texts = st.text(letters, max_size=40)


@pytest.fixture(scope="module", params=["byte_level", "spanning", "byte_fallback", "metaspace"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardTokenizer:
    return build(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> ShardTokenizer:
    return build("spanning", tmp_path_factory)


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory: pytest.TempPathFactory) -> ShardTokenizer:
    return build("byte_fallback", tmp_path_factory)


def build(kind: str, tmp_path_factory: pytest.TempPathFactory) -> ShardTokenizer:
    tokenizer = sentencepiece_bpe(kind) if kind in ("byte_fallback", "metaspace") else byte_level_bpe(kind)
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    folder = tmp_path_factory.mktemp(kind)
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def byte_level_bpe(kind: str) -> Tokenizer:
    """As GPT-2's; `spanning` merges across words, so that tokens end inside characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "byte_level")
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=TRAINED_SIZE, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def sentencepiece_bpe(kind: str) -> Tokenizer:
    """As Llama 2's: a mark for spaces, bytes as tokens where the vocabulary has no character."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    latin = [text.encode("ascii", "ignore").decode() for text in CORPUS]
    trained.train_from_iterator(latin, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    merges = [
        tuple(merge) if isinstance(merge, list) else tuple(merge.split(" "))
        for merge in json_of(trained)["model"]["merges"]
    ]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *trained.get_vocab()]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()]
        )
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    return tokenizer


def json_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())


def stray_byte(tokenizer: ShardTokenizer) -> int:
    """A token that is no character however often it comes."""
    return next(i for i in range(400) if tokenizer.decode([40, i, i], False).endswith("\ufffd" * 2))


def stream(tokenizer: ShardTokenizer, prompt: Sequence[int], generated: Sequence[int]) -> list[str]:
    """The texts of the pushes, and last what is flushed."""
    detokenizer = IncrementalDetokenizer(tokenizer, prompt)
    return [*map(detokenizer.push, generated), detokenizer.flush()]


def one_decode(tokenizer: ShardTokenizer, prompt: Sequence[int], generated: Sequence[int]) -> str:
    known = tokenizer.decode(prompt, skip_special_tokens=False)
    text = tokenizer.decode([*prompt, *generated], skip_special_tokens=False)
    assert text.startswith(known)
    return text[len(known) :]


@given(prompt=texts, text=texts, length=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_the_stream_of_any_text_is_the_text(
    tokenizer: ShardTokenizer, prompt: str, text: str, length: int
) -> None:
    prompt_ids = tokenizer.encode("Hi" + prompt + ".", add_special_tokens=False)[-length:]
    ids = tokenizer.encode("it" + text, add_special_tokens=False)
    prompt_ids = prompt_ids if "\ufffd" not in tokenizer.decode(prompt_ids, False) else ids[:1]
    assert "".join(stream(tokenizer, prompt_ids, ids)) == one_decode(tokenizer, prompt_ids, ids)


@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_no_push_gives_out_half_a_character(tokenizer: ShardTokenizer, text: str) -> None:
    text = text.replace("\ufffd", "")
    *pushes, flushed = stream(tokenizer, [5, 6, 7], tokenizer.encode(text, add_special_tokens=False))
    assert "\ufffd" not in "".join(pushes)
    assert flushed == ""


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_byte_level_streams_of_arbitrary_tokens_lose_nothing(
    byte_level: ShardTokenizer, data: st.DataObject
) -> None:
    token = st.integers(0, TRAINED_SIZE + 3)  # some beyond the vocabulary, which have no text
    prompt_ids = byte_level.encode("A prompt", add_special_tokens=False)
    ids = data.draw(st.lists(token, max_size=60))
    assert "".join(stream(byte_level, prompt_ids, ids)) == one_decode(byte_level, prompt_ids, ids)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_byte_fallback_streams_of_arbitrary_tokens_go_on(
    byte_fallback: ShardTokenizer, data: st.DataObject
) -> None:
    token = st.one_of(st.integers(0, 383), st.integers(1, 256))
    ids = data.draw(st.lists(token, max_size=80))
    tail = byte_fallback.encode("the end", add_special_tokens=False)
    text = "".join(stream(byte_fallback, tail, [*ids, *tail]))
    assert text.endswith("the end")


def test_an_emoji_of_several_tokens_comes_at_once(byte_fallback: ShardTokenizer) -> None:
    ids = byte_fallback.encode("a🎉b", add_special_tokens=False)
    pushes = stream(byte_fallback, [300], ids)
    assert [text for text in pushes if text] == [" ", "a", "🎉", "b"]


def test_a_token_that_completes_one_character_and_begins_another_gives_out_the_first() -> None:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    (a, b, c), (d, e, f) = (byte_level.pre_tokenize_str(character)[0][0] for character in "漢字")
    vocab = {token: i for i, token in enumerate([a, b, c, d, e, f, c + d, "!"])}
    tokenizer = Tokenizer(models.BPE(vocab, [(c, d)]))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    ids = tokenizer.encode("漢字").ids
    assert len(ids) == 5
    shard_tokenizer = ShardTokenizer(
        tokenizer, special_ids=frozenset(), eos_token_id=None, model_max_length=None
    )
    assert stream(shard_tokenizer, [7], ids) == ["", "", "漢", "", "字", ""]


def test_a_character_that_the_prompt_began_is_given_out_whole(byte_fallback: ShardTokenizer) -> None:
    *prompt_ids, last = byte_fallback.encode("a🎉", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(byte_fallback, prompt_ids)
    assert detokenizer.push(last) == "🎉"
    assert detokenizer.final_text() == "🎉"


def test_a_prompt_whose_tail_is_all_bytes_is_read_from_a_character_on(byte_fallback: ShardTokenizer) -> None:
    prompt_ids = byte_fallback.encode("漢字🎉", add_special_tokens=False)
    ids = byte_fallback.encode("漢a", add_special_tokens=False)[1:]
    assert "".join(stream(byte_fallback, prompt_ids, ids)) == "漢a"


def test_a_literal_replacement_character_is_text_like_any_other(byte_fallback: ShardTokenizer) -> None:
    ids = byte_fallback.encode("a\ufffdb", add_special_tokens=False)
    assert "".join(stream(byte_fallback, [300], ids)) == " a\ufffdb"


@pytest.mark.parametrize("prompt_length", [0, 1, 2, 4, 5, 6])
def test_short_prompts_are_safe(tokenizer: ShardTokenizer, prompt_length: int) -> None:
    prompt_ids = tokenizer.encode("the quick brown fox", add_special_tokens=False)[:prompt_length]
    ids = tokenizer.encode("brown 🎉 fox", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokenizer, prompt_ids)
    streamed = "".join(map(detokenizer.push, ids)) + detokenizer.flush()
    assert streamed == one_decode(tokenizer, prompt_ids, ids) == detokenizer.final_text()


def test_special_tokens_are_streamed_but_not_in_the_final_text(tokenizer: ShardTokenizer) -> None:
    (end,) = tokenizer.special_ids
    prompt_ids = tokenizer.encode("The quick brown fox", add_special_tokens=False)
    ids = tokenizer.encode("jumps over", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokenizer, [*prompt_ids, end])
    streamed = "".join(map(detokenizer.push, [*ids, end]))
    assert streamed.endswith("jumps over<|end|>")
    assert detokenizer.final_text().strip() == "jumps over"


def test_long_runs_that_are_no_character_are_given_out_as_they_come(tokenizer: ShardTokenizer) -> None:
    pushes = stream(tokenizer, [40], [stray_byte(tokenizer)] * 100)
    assert "".join(pushes) == "\ufffd" * 100
    assert all(pushes[10:-1])
    assert pushes[-1] == "\ufffd"


def test_a_push_decodes_a_few_tokens_however_long_the_text_is(tokenizer: ShardTokenizer) -> None:
    decoded: list[int] = []

    class Counting:
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            raise NotImplementedError

        def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
            decoded.append(len(ids))
            return tokenizer.decode(ids, skip_special_tokens)

    counting = ShardTokenizer(Counting(), special_ids=frozenset(), eos_token_id=None, model_max_length=None)
    text = tokenizer.encode("the quick brown fox 🎉 漢字 " * 40, add_special_tokens=False)
    for ids in (text, [BEYOND_ALL] * 300, [stray_byte(tokenizer)] * 300):
        detokenizer = IncrementalDetokenizer(counting, [40])
        decoded.clear()
        for token_id in ids:
            detokenizer.push(token_id)
        assert max(decoded) <= 33
        assert len(decoded) <= 2 * len(ids)


def test_an_incomplete_end_is_flushed_and_in_the_final_text(byte_fallback: ShardTokenizer) -> None:
    ids = byte_fallback.encode("ok 🎉", add_special_tokens=False)[:-1]
    detokenizer = IncrementalDetokenizer(byte_fallback, [300])
    pushed = "".join(map(detokenizer.push, ids))
    assert pushed == " ok "
    assert detokenizer.flush() == "\ufffd" * 3
    assert detokenizer.flush() == ""
    assert detokenizer.final_text() == " ok " + "\ufffd" * 3
