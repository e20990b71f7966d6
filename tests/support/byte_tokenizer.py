"""A tokenizer whose tokens are easy to count: each byte is one, after a first special one."""

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

BOS = "<s>"
BOS_ID = 256


def byte_tokenizer() -> Tokenizer:
    """256 bytes, ids in the order of the byte-level alphabet, and `<s>` before every text."""
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(
        BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(BOS, special=True)])
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return tokenizer
