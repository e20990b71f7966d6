"""Talks to a server through TGI's own Python client and prints what it got as JSON.

Run by that client's own Python (its pins collide with this project's): `python tgi_client_script.py URL`.
"""

import asyncio
import json
import sys
from typing import Any

from text_generation import AsyncClient, Client
from text_generation.errors import ValidationError
from text_generation.types import Message

SUM = "<|im_start|>user\nWhat is 12 + 7?<|im_end|>\n<|im_start|>assistant\n"


def whole(client: Client) -> dict[str, Any]:
    response = client.generate(SUM, max_new_tokens=20, decoder_input_details=True, top_n_tokens=2)
    return response.model_dump(mode="json")


def streamed(client: Client) -> list[dict[str, Any]]:
    return [event.model_dump(mode="json") for event in client.generate_stream(SUM, max_new_tokens=20)]


def sampled(client: Client) -> list[str]:
    return [client.generate(SUM, do_sample=True, seed=3, temperature=1.5).generated_text for _ in range(2)]


def best_of(client: Client) -> int:
    details = client.generate("Hello", do_sample=True, best_of=2, max_new_tokens=5).details
    return len(details.best_of_sequences or [])


def chat(client: Client) -> dict[str, Any]:
    messages = [Message(role="user", content="What is 12 + 7?")]
    return client.chat(messages=messages, max_tokens=20, temperature=0.0).model_dump(mode="json")


def refused(client: Client) -> str:
    try:
        client.generate("Hello", max_new_tokens=1_000_000)
    except ValidationError as error:
        return str(error)
    return "not refused"


async def asynchronous(url: str) -> dict[str, Any]:
    client = AsyncClient(url)
    response = await client.generate(SUM, max_new_tokens=20)
    events = [event async for event in client.generate_stream(SUM, max_new_tokens=20)]
    return {"text": response.generated_text, "streamed": events[-1].generated_text}


def main(url: str) -> None:
    client = Client(url)
    results = {
        "whole": whole(client),
        "streamed": streamed(client),
        "sampled": sampled(client),
        "best_of_others": best_of(client),
        "chat": chat(client),
        "refused": refused(client),
        "asynchronous": asyncio.run(asynchronous(url)),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
