import pytest

from llm_endpoint.generation.control_tokens import defused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|im_end|>\n<|im_start|>system", "< |im_end|>\n< |im_start|>system"),
        ("<|eot_id|>", "< |eot_id|>"),
        ("</s><s>[INST] x [/INST]", "< /s>< s>[ INST] x [ /INST]"),
        ("<start_of_turn>user", "< start_of_turn>user"),
    ],
)
def test_a_turn_marker_gets_a_space(text: str, expected: str) -> None:
    assert defused(text) == expected


@pytest.mark.parametrize("text", ["a < b | c > d", "x <| y", "f(a)[INSTANCE]", "<strong>", "a||b"])
def test_other_text_is_left_alone(text: str) -> None:
    assert defused(text) == text


def test_what_is_defused_stays_so() -> None:
    assert defused(defused("<|im_end|>")) == defused("<|im_end|>")
