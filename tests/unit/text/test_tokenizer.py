"""Loading a model's tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tgi_shard.text.tokenizer import TokenizerError, load_tokenizer

TEXT = "The quick brown fox , it does n't jump . 漢字 🎉"

PYTHON_TOKENIZER = """
from transformers import PreTrainedTokenizer

class LetterTokenizer(PreTrainedTokenizer):
    @property
    def vocab_size(self):
        return 26

    def get_vocab(self):
        return {chr(97 + i): i for i in range(26)} | self.added_tokens_encoder

    def _tokenize(self, text, **kwargs):
        return list(text)

    def _convert_token_to_id(self, token):
        return ord(token) - 97

    def _convert_id_to_token(self, index):
        return chr(97 + index)

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)
"""


def bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def write(folder: Path, tokenizer: Tokenizer, config: dict[str, Any] | None = None) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"eos_token": "</s>", "bos_token": {"content": "<s>"}, "model_max_length": 2048}
    return write(tmp_path_factory.mktemp("model"), bpe(), config)


def test_specials_are_added_on_request_and_left_out_on_request(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    ids = tokenizer.encode("The fox</s>", add_special_tokens=True)
    assert ids[0] == 0
    assert ids[1:] == tokenizer.encode("The fox</s>", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>The fox</s>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "The fox"


@given(st.text(max_size=30), st.booleans())
@settings(max_examples=50, deadline=None)
def test_texts_and_ids_equal_those_of_transformers(model_folder: Path, text: str, special: bool) -> None:
    ours = load_tokenizer(model_folder)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(model_folder / "tokenizer.json"))
    text += " ."
    ids = ours.encode(text, add_special_tokens=special)
    assert ids == theirs.encode(text, add_special_tokens=special)
    decoded = theirs.decode(ids, skip_special_tokens=special, clean_up_tokenization_spaces=False)
    assert ours.decode(ids, skip_special_tokens=special) == decoded


def test_what_the_configuration_says_is_read(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    assert tokenizer.eos_token_id == 1
    assert tokenizer.special_ids == {0, 1}
    assert tokenizer.model_max_length == 2048


@pytest.mark.parametrize("length", [None, 1e30, "2048"])
def test_a_length_that_is_no_limit_is_none(tmp_path: Path, length: object) -> None:
    assert load_tokenizer(write(tmp_path, bpe(), {"model_max_length": length})).model_max_length is None


def test_the_configuration_may_be_absent(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write(tmp_path, bpe()))
    assert tokenizer.eos_token_id is None
    assert tokenizer.model_max_length is None


def test_the_older_special_tokens_map_names_the_eos_token_too(tmp_path: Path) -> None:
    write(tmp_path, bpe(), {"model_max_length": 5})
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>", "lstrip": false}}')
    assert load_tokenizer(tmp_path).eos_token_id == 1


def test_tokens_that_only_the_configuration_names_special_are_special(tmp_path: Path) -> None:
    tokenizer = bpe()
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("<pad>"), AddedToken("<x>"), AddedToken("<y>")])
    config = {
        "pad_token": "<pad>",
        "unk_token": "<not in the vocabulary>",
        "additional_special_tokens": ["<x>"],
        "added_tokens_decoder": {
            "303": {"content": "<y>", "special": True},
            "300": {"content": "<think>", "special": False},
        },
    }
    loaded = load_tokenizer(write(tmp_path, tokenizer, config))
    pad, x, y = (tokenizer.token_to_id(token) for token in ("<pad>", "<x>", "<y>"))
    assert loaded.special_ids == {0, 1, pad, x, y}
    assert len(loaded.encode("<not in the vocabulary>", add_special_tokens=False)) > 1
    ids = loaded.encode("<think>a<pad><x><y>", add_special_tokens=False)
    assert loaded.decode(ids, skip_special_tokens=True) == "<think>a"


def test_what_the_file_says_of_a_special_token_is_kept(tmp_path: Path) -> None:
    tokenizer = bpe()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    loaded = load_tokenizer(write(tmp_path, tokenizer, {"mask_token": "<mask>"}))
    ids = loaded.encode("a  <mask>", add_special_tokens=False)
    assert [loaded.token_text(i) for i in ids] == ["a", "<mask>"]


def test_a_files_own_truncation_and_padding_are_not_applied(tmp_path: Path) -> None:
    tokenizer = bpe()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    loaded = load_tokenizer(write(tmp_path, tokenizer))
    ids = loaded.encode(TEXT, add_special_tokens=False)
    assert loaded.decode(ids, skip_special_tokens=False) == TEXT


def test_a_token_alone_keeps_its_text_also_when_special_or_unknown(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    (quick,) = tokenizer.encode(" quick", add_special_tokens=False)
    for _ in range(2):
        assert [tokenizer.token_text(i) for i in (0, quick, 9999)] == ["<s>", " quick", ""]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(TokenizerError, match=r"has no tokenizer: tokenizer\.json is missing") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_why_transformers_fails_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer.model").write_bytes(b"\x00not sentencepiece")
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json, and transformers cannot") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", "is not a valid tokenizer"),
        ("tokenizer.json", '{"version": "1.0", "model": ', "is not a valid tokenizer"),
        ("tokenizer_config.json", '{"eos_token": ', "is not valid JSON"),
        ("tokenizer_config.json", "[]", "must hold a JSON object, not list"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    write(tmp_path, bpe())
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_an_older_vocabulary_file_is_read_through_transformers(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "##es"])
    )
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("foxes", add_special_tokens=True) == [2, 5, 6, 3]
    assert tokenizer.decode([2, 5, 6, 3], skip_special_tokens=True) == "foxes"
    assert tokenizer.special_ids == {0, 1, 2, 3, 4}


def python_tokenizer(folder: Path) -> Path:
    (folder / "tokenization_letters.py").write_text(PYTHON_TOKENIZER)
    config = {
        "tokenizer_class": "LetterTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_letters.LetterTokenizer", None]},
        "eos_token": "<end>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def test_a_models_own_tokenizer_code_runs_only_when_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "letters"
    folder.mkdir()
    python_tokenizer(folder)
    with pytest.raises(TokenizerError, match="trust_remote_code"):
        load_tokenizer(folder)
    tokenizer = load_tokenizer(folder, trust_remote_code=True)
    ids = tokenizer.encode("fox", add_special_tokens=False)
    assert ids == [5, 14, 23]
    assert tokenizer.eos_token_id == 26
    assert tokenizer.special_ids == {26}
    assert tokenizer.decode([*ids, 26, 500], skip_special_tokens=True) == "fox"
    assert tokenizer.token_text(26) == "<end>"
