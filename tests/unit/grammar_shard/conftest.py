"""A vocabulary for grammars: the demo model's, under logits that are wider."""

import pytest
from llguidance import LLTokenizer

from support.grammars import EOS_IDS, WIDTH
from tgi_demo import MODEL_PATH
from tgi_shard.grammar.compile import GrammarCompiler, load_vocabulary
from tgi_shard.text.tokenizer import ShardTokenizer, load_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> ShardTokenizer:
    return load_tokenizer(MODEL_PATH)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: ShardTokenizer) -> LLTokenizer:
    return load_vocabulary(tokenizer, WIDTH, EOS_IDS)


@pytest.fixture
def compiler(vocabulary: LLTokenizer) -> GrammarCompiler:
    return GrammarCompiler(vocabulary)
