"""The shard's tokenizer: read from tokenizer.json without importing transformers, which takes seconds."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import AddedToken, Tokenizer

from tgi_common.model_files import ModelFilesError

# Configurations write "no limit" as some huge number, mostly 1e30.
_NO_LIMIT = 10**9
# Where tokenizers were kept before tokenizer.json, or are beside it.
_OLDER_FILES = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")


class TokenizerError(ModelFilesError):
    """A model's tokenizer is missing or cannot be used. The message is one line for the user."""


class _Library(Protocol):
    """What the tokenizer's library must offer."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...

    def to_json(self) -> str: ...

    def highest_id(self) -> int: ...


class ShardTokenizer:
    """A model's tokenizer.

    Attributes:
        special_ids: tokens that `skip_special_tokens` leaves out.
        eos_token_id: the end-of-sequence token that the tokenizer itself names.
        model_max_length: the longest sequence, in tokens, that the tokenizer declares.
    """

    def __init__(
        self,
        library: _Library,
        *,
        special_ids: frozenset[int],
        eos_token_id: int | None,
        model_max_length: int | None,
    ) -> None:
        self.special_ids = special_ids
        self.eos_token_id = eos_token_id
        self.model_max_length = model_max_length
        self._library = library
        self._token_texts: dict[int, str] = {}

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:  # noqa: FBT001 - as in tokenizers
        """The ids of a text."""
        return self._library.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:  # noqa: FBT001 - as in tokenizers
        """The text of some ids, spaces as they are; ids beyond the vocabulary have no text."""
        return self._library.decode(ids, skip_special_tokens=skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """The text of a token decoded alone, that of special tokens included."""
        text = self._token_texts.get(token_id)
        if text is None:
            text = self.decode([token_id], skip_special_tokens=False)
            self._token_texts[token_id] = text
        return text

    def to_json(self) -> str:
        """All of it, in the form of a tokenizer.json.

        Raises:
            TokenizerError: it has no such form.
        """
        return self._library.to_json()

    def highest_id(self) -> int:
        """The highest id of a token."""
        return self._library.highest_id()


def load_tokenizer(
    folder: Path,
    trust_remote_code: bool = False,  # noqa: FBT001, FBT002 - as in transformers
) -> ShardTokenizer:
    """The tokenizer of a model folder: its tokenizer.json, or else what transformers makes of its files.

    Args:
        folder: the model's folder.
        trust_remote_code: run tokenizer code that comes with the model, where only that can read its files.

    Raises:
        TokenizerError: naming the folder or file, and what is missing or wrong.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return _load_with_transformers(folder, trust_remote_code=trust_remote_code)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise TokenizerError(f"{path} is not a valid tokenizer: {error}") from None
    config = _read_config(folder)
    _mark_special_tokens(tokenizer, config)
    return _from_tokenizers(tokenizer, _content(config.get("eos_token")), config.get("model_max_length"))


class _TokenizersLibrary:
    """`tokenizers`, whose `encode` returns more than ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()  # a file may ask for either; prompts are to be taken as they are
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.decode = tokenizer.decode
        self.to_json = tokenizer.to_str

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def highest_id(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values())


class _TransformersLibrary:
    """A tokenizer that is written in Python, and that `tokenizers` therefore cannot run."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers' types are not imported here
        self._tokenizer = tokenizer

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        known = [token_id for token_id in ids if token_id < len(self._tokenizer)]
        text = self._tokenizer.decode(
            known, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return str(text)

    def to_json(self) -> str:
        raise TokenizerError("it is written in Python and has no tokenizer.json")

    def highest_id(self) -> int:
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return max(vocabulary.values())


def _from_tokenizers(tokenizer: Tokenizer, eos_token: str | None, max_length: object) -> ShardTokenizer:
    added = tokenizer.get_added_tokens_decoder()
    return ShardTokenizer(
        _TokenizersLibrary(tokenizer),
        special_ids=frozenset(token_id for token_id, token in added.items() if token.special),
        eos_token_id=None if eos_token is None else tokenizer.token_to_id(eos_token),
        model_max_length=_limit(max_length),
    )


def _load_with_transformers(folder: Path, *, trust_remote_code: bool) -> ShardTokenizer:
    if not any(any(folder.glob(pattern)) for pattern in _OLDER_FILES):
        raise TokenizerError(f"{folder} has no tokenizer: tokenizer.json is missing, or an older form of it")
    from transformers import AutoTokenizer  # here, since it takes seconds that most models need not wait

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # what the files lack shows as an error of any type
        reason = " ".join(str(error).split())
        raise TokenizerError(
            f"{folder} has no tokenizer.json, and transformers cannot read another tokenizer there: {reason}"
        ) from None
    if tokenizer.is_fast:
        return _from_tokenizers(tokenizer.backend_tokenizer, tokenizer.eos_token, tokenizer.model_max_length)
    added = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return ShardTokenizer(
        _TransformersLibrary(tokenizer),
        special_ids=frozenset({*added, *tokenizer.all_special_ids}),
        eos_token_id=tokenizer.eos_token_id,
        model_max_length=_limit(tokenizer.model_max_length),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, completed from the older special_tokens_map.json; either may be absent."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TokenizerError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise TokenizerError(f"{path} must hold a JSON object, not {type(content).__name__}")
        config |= content
    return config


def _mark_special_tokens(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """Make special what the configuration names so, as transformers does; tokenizer.json may not say it."""
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content for token in added.values() if token.special}
    named = dict.fromkeys(_named_special_tokens(config))
    tokenizer.add_special_tokens(
        [
            AddedToken(content, special=True, normalized=False)
            for content in named
            if content not in special and tokenizer.token_to_id(content) is not None
        ]
    )


def _named_special_tokens(config: dict[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if key.endswith("_token") and (content := _content(value)) is not None:
            yield content
    more: list[object] = []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more += _items(config.get(key))
    more += [
        token
        for token in _items(config.get("added_tokens_decoder"))
        if isinstance(token, dict) and token.get("special")
    ]
    yield from (content for token in more if (content := _content(token)) is not None)


def _items(value: object) -> list[object]:
    """The items of a list, the values of an object, or nothing."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _content(token: object) -> str | None:
    """The text of a token, which a configuration gives as such or as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _limit(length: object) -> int | None:
    return int(length) if isinstance(length, int | float) and 0 < length <= _NO_LIMIT else None
