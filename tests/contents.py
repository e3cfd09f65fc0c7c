"""Content of every kind, for tests that promise something of each."""

import json

from hypothesis import strategies as st

from turnmill.domain.content import (
    Audio,
    File,
    Image,
    Message,
    Native,
    Part,
    Text,
    ToolCall,
    ToolOutput,
)

#: What every store takes: no NUL, no lone surrogate.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
_named = words.filter(bool)
_reference = {"id": words, "url": words, "sha256": words, "media_type": words}
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)

parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, words),
    st.builds(Image, **_reference),
    st.builds(File, **_reference, name=words),
    st.builds(Audio, **_reference),
    st.builds(ToolCall, id=_named, name=_named, arguments=words),
    st.builds(ToolOutput, call_id=_named, output=words, is_error=st.booleans()),
    st.builds(Native, provider=_named, item=_json.map(json.dumps), api=words),
)
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "tool", "system"]),
    st.lists(parts, min_size=1, max_size=5).map(tuple),
)

#: One of each kind, with something in every field.
EACH: tuple[Part, ...] = (
    Text("Look at this:"),
    Image(id="att_1", url="https://example.org/a.png", sha256="ab" * 32, media_type="image/png"),
    File(id="att_2", name="terms.pdf", media_type="application/pdf"),
    Audio(url="https://example.org/a.mp3"),
    ToolCall(id="call_1", name="weather", arguments='{"city": "Ankara"}'),
    ToolOutput(call_id="call_1", output="no such city", is_error=True),
    Native(provider="openai", api="responses", item='{"type": "reasoning", "n": 1.50}'),
)
