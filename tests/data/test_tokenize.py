"""Rendering: the prompt's ids come first, and the answer ends at its end token with nothing after it."""

import re
from dataclasses import replace

import jinja2
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from tspin_mlx.base.errors import DataError
from tspin_mlx.data.read import Located, Splits, render_examples
from tspin_mlx.data.tokenize import PAPER_TEMPLATE, BadExample, RawExample, on_one_day, render, render_prompt
from tspin_mlx.recipe.schema import DataSection

BEGIN, START, END, STOP = "<s>", "<|im_start|>", "<|im_end|>", "<|stop|>"
MARKERS = (BEGIN, START, END, STOP)
VOCABULARY = 0x110000 + len(MARKERS)

TURNS = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


class Characters:
    """A tokenizer with an id per character and per marker; its chat template is Jinja, like a real one's."""

    eos_token = END
    eos_token_ids = frozenset([MARKERS.index(END), MARKERS.index(STOP)])

    def __init__(self, template=CHAT):
        self.template = template
        self.has_chat_template = template is not None

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt, **more):
        assert tokenize is False
        template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(self.template)
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt, **more)

    def encode(self, text, *, add_special_tokens):
        pieces = re.findall("|".join(map(re.escape, MARKERS)) + "|.", text, re.DOTALL)
        ids = [MARKERS.index(x) if x in MARKERS else ord(x) + len(MARKERS) for x in pieces]
        return [MARKERS.index(BEGIN), *ids] if add_special_tokens else ids

    def decode(self, ids):
        return "".join(MARKERS[i] if i < len(MARKERS) else chr(i - len(MARKERS)) for i in ids)


class Bytes(Characters):
    """A real byte-level BPE with two merges: a space and the letter after it are one token."""

    def __init__(self, template=CHAT):
        super().__init__(template)
        tokens = [*MARKERS, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġy", "Ġye"]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        self.inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "y"), ("Ġy", "e")]))
        self.inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self.inner.decoder = decoders.ByteLevel()
        self.inner.add_special_tokens(list(MARKERS))

    def encode(self, text, *, add_special_tokens):
        ids = self.inner.encode(text, add_special_tokens=False).ids
        return [MARKERS.index(BEGIN), *ids] if add_special_tokens else ids

    def decode(self, ids):
        return self.inner.decode(ids, skip_special_tokens=False)


def example(*turns, response="Yo", answer="Yo"):
    roles = ("user", "assistant")
    messages = tuple({"role": roles[i % 2], "content": text} for i, text in enumerate(turns or ("Hi",)))
    return RawExample(messages=messages, response=response, answer=answer)


def with_system(shown, text):
    return replace(shown, messages=({"role": "system", "content": text}, *shown.messages))


def rendered(shown, tokenizer=None, vocab_size=VOCABULARY, **keys):
    data = DataSection(train="t.jsonl", **keys)
    return render(shown, "t.jsonl:1", tokenizer or Characters(), data, vocab_size)


def texts(shown, tokenizer=None, **keys):
    """The prompt and the scored answer, decoded."""
    tokenizer = tokenizer or Characters()
    prompt = rendered(shown, tokenizer, **keys)
    return tokenizer.decode(prompt.tokens), tokenizer.decode(prompt.annotated.tokens)


def test_prompt_and_answer_are_those_of_the_chat_template():
    prompt = rendered(example("Hi"))
    # <|im_start|> is 1, <|im_end|> is 2, every character is its code point + 4
    assert prompt.tokens[:6] == (1, ord("u") + 4, ord("s") + 4, ord("e") + 4, ord("r") + 4, 14)
    assert prompt.annotated.tokens == (ord("Y") + 4, ord("o") + 4, 2)
    assert texts(example("Hi")) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "Yo<|im_end|>",
    )


def test_the_texts_for_people_are_kept():
    prompt = rendered(example("one", "two", "three", response="four", answer="4"))
    assert (prompt.id, prompt.text, prompt.answer) == ("t.jsonl:1", "three", "4")
    assert prompt.annotated.text == "four"
    assert (prompt.annotated.finish_reason, prompt.annotated.seed) == ("stop", None)


def test_a_conversation_is_all_in_the_prompt():
    before, answer = texts(with_system(example("a", "b", "c", response="d"), "s"))
    assert before == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer == "d<|im_end|>"


@pytest.mark.parametrize("tail", ["", "\n", "\n\n", "</s> and so on", "<|stop|>", "<|im_end|>"])
def test_text_after_the_end_token_is_not_scored(tail):
    template = (
        "Q: {{ messages[0].content }} A: "
        "{% if not add_generation_prompt %}{{ messages[1].content + '<|im_end|>' }}" + tail + "{% endif %}"
    )
    assert texts(example("Hi"), Characters(template)) == ("Q: Hi A: ", "Yo<|im_end|>")


def test_the_first_of_several_end_tokens_ends_the_answer():
    template = CHAT.replace("m.content + '<|im_end|>", "m.content + '<|stop|><|im_end|>")
    assert texts(example("Hi"), Characters(template))[1] == "Yo<|stop|>"


def test_a_thinking_model_is_asked_not_to_think():
    template = (
        TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}{% endif %}"
    )
    assert texts(example("Hi"), Characters(template))[0].endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("tokenizer", [Characters(), Bytes()], ids=["characters", "bytes"])
@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<\0"), min_size=1),
    response=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<\0"), min_size=1),
    template=st.sampled_from(["chat", "paper", "{prompt}", "Q:{prompt} A: "]),
)
def test_prompt_and_answer_together_are_the_whole_text_up_to_its_end(tokenizer, prompt, response, template):
    shown = example(prompt, response=response)
    before, answer = texts(shown, tokenizer, template=template)
    patterns = {"paper": BEGIN + PAPER_TEMPLATE, "chat": f"{START}user\n{{prompt}}{END}\n{START}assistant\n"}
    assert before == patterns.get(template, BEGIN + template).replace("{prompt}", prompt)
    assert answer == response + END


def test_the_prompts_ids_do_not_depend_on_the_answer():
    tokenizer = Bytes()
    # Together "A: " and "yes" would merge to "A", ":", " ye", "s"; the model never meets that when it generates.
    assert len(tokenizer.encode("A: yes", add_special_tokens=False)) == 4
    prompts = [
        rendered(example("Hi", response=response), tokenizer, template="Q:{prompt} A: ").tokens
        for response in ("yes", "no")
    ]
    assert prompts[0] == prompts[1]
    assert tokenizer.decode(prompts[0]) == "<s>Q:Hi A: "
    merged = rendered(example("Hi", response="yes"), tokenizer, template="Q:{prompt} A: ").annotated.tokens
    assert merged == tuple(tokenizer.encode("yes<|im_end|>", add_special_tokens=False))


def test_the_papers_template_is_its_exact_text():
    assert PAPER_TEMPLATE == "### Instruction: {prompt}\n\n### Response: "
    assert texts(example("Hi"), template="paper") == (
        "<s>### Instruction: Hi\n\n### Response: ",
        "Yo<|im_end|>",
    )


def test_a_template_string_takes_prompt_and_system():
    template = "{system}\n\nQ: {prompt}\nA: "
    assert texts(with_system(example("Hi"), "Be kind."), template=template)[0] == "<s>Be kind.\n\nQ: Hi\nA: "
    assert texts(example("Hi"), template=template)[0] == "<s>\n\nQ: Hi\nA: "


def test_other_braces_in_template_and_texts_mean_nothing():
    template = '{"ask": "{prompt}"} {0} '
    assert texts(example("{x} {} {system}"), template=template)[0] == '<s>{"ask": "{x} {} {system}"} {0} '


def test_a_template_string_without_a_place_for_the_system_prompt_refuses_one():
    with pytest.raises(BadExample, match=r"has a system prompt, but data\.template has no \{system\}"):
        rendered(with_system(example("Hi"), "Be kind."), template="paper")


def test_a_template_string_refuses_a_conversation():
    with pytest.raises(BadExample, match="a template string supports only one user turn"):
        rendered(example("a", "b", "c"), template="paper")


def test_a_row_fits_exactly_or_not_at_all():
    # "Q:Hi" with its begin token and "Yo" with its end token: 5 + 3
    shown = example("Hi")
    assert len(rendered(shown, template="Q:{prompt}", max_tokens=8).tokens) == 5
    with pytest.raises(BadExample, match="6 prompt \\+ 3 answer tokens do not fit into 8"):
        rendered(shown, template="Q: {prompt}", max_tokens=8)


def test_ids_beyond_the_vocabulary_are_refused():
    shown = example("Hi", response="é")  # é is 233 + 4, and the largest
    assert rendered(shown, vocab_size=238).annotated.tokens == (237, 2)
    with pytest.raises(BadExample, match=r"ids exceed the model's vocabulary \(237\)"):
        rendered(shown, vocab_size=237)
    with pytest.raises(BadExample, match=r"ids exceed the model's vocabulary \(237\)"):
        rendered(example("é"), vocab_size=237)


def test_a_prompt_that_looks_different_once_answered_is_refused():
    template = "{% if add_generation_prompt %}Open.{% else %}Closed.{% endif %}" + CHAT
    with pytest.raises(BadExample, match="changes the prompt when an answer follows"):
        rendered(example("Hi"), Characters(template))


def test_an_answer_without_an_end_token_is_refused():
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with pytest.raises(BadExample, match="does not end an answer with an end token"):
        rendered(example("Hi"), Characters(template))


def test_without_a_chat_template_another_one_must_be_chosen():
    with pytest.raises(BadExample, match=r"no chat template; set data\.template to 'paper' or to a text"):
        rendered(example("Hi"), Characters(template=None))
    assert texts(example("Hi"), Characters(template=None), template="paper")[1] == "Yo<|im_end|>"


@pytest.mark.parametrize(
    "template", ["{{ messages[0].nothing }}", "{{ messages[0].content + 1 }}", "{% for m in messages %}"]
)
def test_a_template_that_fails_is_a_reason(template):
    with pytest.raises(BadExample, match="the model's chat template rejects it: "):
        rendered(example("Hi"), Characters(template))


def located(*names, prompt="Hi"):
    return tuple(Located(f"t.jsonl:{n}", example(prompt)) for n in names)


def render_all(splits, *, context=None, **keys):
    data = DataSection(train="t.jsonl", template="Q:{prompt}", **keys)
    return render_examples(splits, data, Characters(), VOCABULARY, context)


def test_all_parts_are_rendered_in_their_order():
    done = render_all(Splits(located(3, 1), located(2), located(4, 5), skipped=("before",)))
    assert [[x.id for x in part] for part in (done.train, done.validation, done.test)] == [
        ["t.jsonl:3", "t.jsonl:1"],
        ["t.jsonl:2"],
        ["t.jsonl:4", "t.jsonl:5"],
    ]
    assert done.skipped == ("before",)


def test_the_models_window_bounds_the_rows():
    splits = Splits(located(1) + located(2, prompt="Hi!"), located(3), ())
    assert render_all(splits, context=9).counts["train"] == 2
    with pytest.raises(DataError, match=r"^t\.jsonl:2: 6 prompt \+ 3 answer tokens do not fit into 8"):
        render_all(splits, context=8)
    with pytest.raises(DataError, match=r"^t\.jsonl:2: 6 prompt \+ 3 answer tokens do not fit into 8"):
        render_all(splits, context=1000, max_tokens=8)


def test_rows_that_cannot_be_rendered_are_skipped_and_counted_on_request():
    splits = Splits(located(1) + located(2, prompt="Hi!"), located(3), (), skipped=("before",))
    done = render_all(splits, max_tokens=8, skip_bad_rows=True)
    assert [x.id for x in done.train] == ["t.jsonl:1"]
    assert done.skipped[0] == "before"
    assert done.skipped[1].startswith("t.jsonl:2: 6 prompt")


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_a_part_that_loses_all_its_rows_is_refused(empty):
    parts = {"train": located(1), "validation": located(2), "test": ()} | {empty: located(3, prompt="too long")}
    with pytest.raises(DataError, match="no usable row is left") as caught:
        render_all(Splits(**parts), max_tokens=8, skip_bad_rows=True)
    assert "t.jsonl:3: 11 prompt" in caught.value.hint


class Metaspace(Characters):
    """As Llama 2's and Mistral's: a text begins with a space of its own, and a space and the letters after it merge."""

    def __init__(self):
        super().__init__(None)
        pieces = [*MARKERS, *"▁#Inst:Repo\nYko", "▁Y"]
        vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        self.inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "Y")]))
        self.inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        self.inner.add_special_tokens(list(MARKERS))

    def encode(self, text, *, add_special_tokens):
        return self.inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return "".join(map(self.inner.id_to_token, ids))


def test_an_answer_tokenised_alone_gets_no_space_before_it():
    _, answer = texts(example("Y", response="Yo"), Metaspace(), template="{prompt}: ")
    assert answer == f"Yo{END}"


@pytest.mark.parametrize("call", ["strftime_now('%d %b %Y')", 'strftime_now( "%d %b %Y" )'])
def test_a_template_with_the_date_has_the_same_one_tomorrow(call):
    template = f"{{% if strftime_now is defined %}}Today: {{{{ {call} }}}}\n{{% endif %}}{CHAT}"
    assert "Today: {{ '26 Jul 2024' }}" in on_one_day(template)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Bytes().inner, eos_token=END)
    tokenizer.chat_template = template
    wrapped = TokenizerWrapper(tokenizer)
    assert render_prompt([{"role": "user", "content": "Hi"}], wrapped, "chat") == list(
        wrapped.encode(f"Today: 26 Jul 2024\n{START}user\nHi{END}\n{START}assistant\n", add_special_tokens=False)
    )
