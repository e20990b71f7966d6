"""How models write calls of tools, as data: a new notation of a known shape is an entry here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto


class Layout(Enum):
    """What stands between the markers, as a model is made to write it. Readers take the others too."""

    OBJECT = auto()
    """One call as an object: `{"name": …, "arguments": {…}}`."""
    LIST = auto()
    """All calls as objects in one list."""
    TAGGED = auto()
    """The name, `arguments_marker`, and the arguments as an object."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A notation of calls. An answer may have text before its calls.

    Attributes:
        begin: stands before the call or the list of calls; empty if there is no such marker.
        end: stands behind it; may be missing at the end of an answer.
        layout: what stands between the two.
        bare: an answer may also be nothing but calls, without `begin`.
        separator: what models write between one call and the next.
        arguments_key: what the arguments are called in an object.
        arguments_marker: stands between a tagged call's name and its arguments; empty if calls are objects.
        id_marker: stands between a tagged call's name and the id that some models give it.
        id_prefix: what the ids we give to calls begin with.
        id_length: how many random characters follow.
        signs: a chat template with one of these in it teaches this notation,
        unlike: unless one of these is in it too.
    """

    name: str
    layout: Layout
    begin: str = ""
    end: str = ""
    bare: bool = False
    separator: str = ""
    arguments_key: str = "arguments"
    arguments_marker: str = ""
    id_marker: str = ""
    id_prefix: str = "call_"
    id_length: int = 24
    signs: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    def taught_by(self, text: str) -> bool:
        """Whether a template, or another description of a model's answers, is about this notation."""
        return any(sign in text for sign in self.signs) and not any(sign in text for sign in self.unlike)


HERMES = ToolFormat(
    "hermes",
    Layout.OBJECT,
    begin="<tool_call>",
    end="</tool_call>",
    separator="\n",
    signs=("<tool_call>",),
    unlike=("<function=", "<arg_key>"),  # the same marker around XML: Qwen3-Coder, GLM
)
LLAMA3_JSON = ToolFormat(
    "llama3_json",
    Layout.OBJECT,
    begin="<|python_tag|>",
    bare=True,
    separator="; ",
    arguments_key="parameters",
    signs=("<|python_tag|>", 'Respond in the format {"name": function name, "parameters"'),
)
MISTRAL_TAGGED = ToolFormat(
    "mistral_tagged",
    Layout.TAGGED,
    begin="[TOOL_CALLS]",
    arguments_marker="[ARGS]",
    id_marker="[CALL_ID]",
    id_prefix="",
    id_length=9,
    signs=("[ARGS]",),
)
MISTRAL = replace(
    MISTRAL_TAGGED,  # which newer models write behind the same marker, so both are read
    name="mistral",
    layout=Layout.LIST,
    separator=", ",
    signs=("[TOOL_CALLS]",),
)
JSON = ToolFormat(
    "llama3_json",
    Layout.OBJECT,
    begin="<|python_tag|>",
    bare=True,
    separator="; ",
    arguments_key="parameters",
    signs=("<|python_tag|>", 'Respond in the format {"name": function name, "parameters"'),
)
MISTRAL_TAGGED = ToolFormat(
    "mistral_tagged",
    Layout.TAGGED,
    begin="[TOOL_CALLS]",
    arguments_marker="[ARGS]",
    id_marker="[CALL_ID]",
    id_prefix="",
    id_length=9,
    signs=("[ARGS]",),
)
MISTRAL = ToolFormat(
    "mistral",
    Layout.LIST,
    begin="[TOOL_CALLS]",
    separator=", ",
    arguments_marker="[ARGS]",
    id_marker="[CALL_ID]",
    id_prefix="",
    id_length=9,
    signs=("[TOOL_CALLS]",),
)
JSON = ToolFormat("json", Layout.LIST, bare=True, separator=", ")

FORMATS = (HERMES, LLAMA3_JSON, MISTRAL_TAGGED, MISTRAL, JSON)
"""All of them. Of two that a template may teach, the stricter sign is first; the last is for the rest."""

_ALIASES = {
    "hermes": (HERMES,),
    "qwen": (HERMES,),
    "qwen25": (HERMES,),
    "qwen3": (HERMES,),
    "llama3_json": (LLAMA3_JSON,),
    "llama4_json": (LLAMA3_JSON,),
    "llama3": (LLAMA3_JSON,),
    "mistral": (MISTRAL_TAGGED, MISTRAL),
    "mistral_tagged": (MISTRAL_TAGGED,),
    "json": (JSON,),
}

FORMAT_NAMES = tuple(_ALIASES)
"""The names that an option may give: ours and those that users know from vLLM and SGLang."""


def formats_named(name: str) -> Sequence[ToolFormat]:
    """The notations that a name stands for; of several, the checkpoint's template decides.

    Raises:
        KeyError: nothing has this name.
    """
    return _ALIASES[name]
