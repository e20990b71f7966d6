"""Builds the tokenizer: byte-level BPE learned from the generated text, every digit a token of its own."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.corpus import BEGIN_OF_TEXT, END_OF_TEXT, EVERYTHING, TURN_END, TURN_START, Corpus

VOCABULARY = 1280
MAX_POSITIONS = 2048
SPECIAL = [BEGIN_OF_TEXT, END_OF_TEXT, TURN_START, TURN_END]
# Tokens of their own, but text: a client must see where a call begins.
CALL_MARKS = ["<tool_call>", "</tool_call>"]
SAMPLE_DOCUMENTS = 20_000


def chat_template(folder: Path) -> Template:
    """The folder's chat template, compiled as transformers does it (`tojson` keeps key order)."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = plain_json
    return environment.from_string((folder / "chat_template.jinja").read_text())


def plain_json(value: object) -> str:
    """JSON with key order and characters kept."""
    return json.dumps(value, ensure_ascii=False)


def build(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on text drawn with `seed`; writes it into `folder`, beside the chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sample(folder, seed),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(CALL_MARKS),
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in CALL_MARKS])
    begin = tokenizer.token_to_id(BEGIN_OF_TEXT)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN_OF_TEXT} $A", pair=f"{BEGIN_OF_TEXT} $A $B", special_tokens=[(BEGIN_OF_TEXT, begin)]
    )
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(
            f"the text gave {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}: sample more of it"
        )
    return save(tokenizer, folder)


def sample(folder: Path, seed: int) -> Iterator[str]:
    """Text to learn merges from."""
    corpus = Corpus(chat_template(folder), EVERYTHING, seed)
    for document in islice(corpus, SAMPLE_DOCUMENTS):
        text = "".join(segment.text for segment in document)
        for token in (*SPECIAL, *CALL_MARKS):
            text = text.replace(token, "")
        # Characters beyond ASCII stay bytes: no merge is spent on them.
        yield text.encode("ascii", "ignore").decode()


def save(tokenizer: Tokenizer, folder: Path) -> PreTrainedTokenizerFast:
    """Writes the tokenizer's files; the template goes into the config too, where older clients look."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN_OF_TEXT,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": MAX_POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": (folder / "chat_template.jinja").read_text(),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return PreTrainedTokenizerFast.from_pretrained(folder)
