"""Bodies of the platforms' routes: SageMaker, Vertex AI, KServe. Field order is the order on the wire."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from tgi_router.schema.generate import GenerateParameters, parameters_of_a_body_without_any

Byte = Annotated[int, Meta(ge=0, le=255)]


class BodyKind(Struct, kw_only=True):
    """The fields by which bodies are told apart."""

    inputs: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET


class VertexRequest(Struct, kw_only=True):
    """Body of /vertex."""

    instances: list[Raw]


class VertexParameters(GenerateParameters, kw_only=True):
    """As of /generate, but sampling is the default."""

    do_sample: bool = True


class VertexInstance(Struct, kw_only=True):
    """A prompt among the instances; the others are chats."""

    inputs: str
    parameters: VertexParameters | None = None


class VertexResponse(Struct):
    """The generated texts, in the order of the instances."""

    predictions: list[str]


class KServeInput(Struct, kw_only=True):
    """A prompt as a tensor of the bytes of its text."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Byte]


class KServeOutput(Struct, kw_only=True):
    """What an answer is to be called."""

    name: str


class KServeRequest(Struct, kw_only=True):
    """Body of KServe's infer."""

    id: str
    inputs: list[KServeInput]
    outputs: list[KServeOutput]
    parameters: GenerateParameters = field(default_factory=parameters_of_a_body_without_any)


class KServeOutputTensor(Struct):
    """A generated text as a tensor of its bytes."""

    name: str
    shape: list[int]
    datatype: str
    data: list[int]


class KServeResponse(Struct):
    """Answer of KServe's infer."""

    id: str
    outputs: list[KServeOutputTensor]


class KServeLive(Struct):
    """Answer of KServe's health routes."""

    live: bool


class KServeMetadata(Struct):
    """What the server, or the model, can do."""

    name: str
    version: str
    extensions: list[str]
