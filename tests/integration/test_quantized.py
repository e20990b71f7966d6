"""The demo model with quantized weights: it still adds, counts and repeats, whoever multiplies."""

import pytest

from support.prompts import chat_prompt
from support.server import Launch, Server

QUESTIONS = {
    "What is 12 + 7?": "19",
    "What is 58 + 34?": "92",
    "How much is 45 + 45?": "90",
    "Count from 3 to 9": "3, 4, 5, 6, 7, 8, 9",
    "Repeat: blue green": "blue green",
}


def assert_it_answers(server: Server) -> None:
    for question, answer in QUESTIONS.items():
        given = server.api.generate(chat_prompt(question), max_new_tokens=30)
        assert given["generated_text"] == answer, question
        assert given["details"]["finish_reason"] == "eos_token"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scheme"),
    [("int8", "int8"), ("int4", "int4, the head int8"), ("bitsandbytes-nf4", "int4, the head int8")],
)
def test_a_quantized_model_answers_and_the_log_names_its_scheme(
    name: str, scheme: str, start_launcher: Launch
) -> None:
    server = start_launcher("--quantize", name, "--dtype", "bfloat16")
    server.wait_until_ready()
    assert_it_answers(server)
    assert "the weights are quantized while they load" in server.log
    assert f"quantize={name}" in server.log
    assert scheme in server.log
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_quantized_model_answers_by_torchs_kernels_alone(name: str, start_launcher: Launch) -> None:
    server = start_launcher("--quantize", name, "--disable-custom-kernels")
    server.wait_until_ready()
    assert_it_answers(server)
    assert "operations=torch" in server.log
    server.stop()


@pytest.mark.slow
def test_two_shards_quantize_their_parts(start_launcher: Launch) -> None:
    server = start_launcher("--quantize", "int4", "--num-shard", "2")
    server.wait_until_ready()
    assert_it_answers(server)
    server.stop()
