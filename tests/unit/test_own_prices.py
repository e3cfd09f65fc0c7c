"""Prices of an operator's own go before the list's, and a file that is wrong is refused by name."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from turnmill.domain.errors import InvalidSetting
from turnmill.settings import Settings
from turnmill_worker.providers.counting import most_cost
from turnmill_worker.providers.own_prices import Price, Prices, prices_in
from turnmill_worker.providers.port import Usage

MILLION = 1_000_000
PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


def prices(tmp_path: Path, text: str, *, name: str = "prices.json") -> Price:
    file = tmp_path / name
    file.write_text(text)
    return prices_in(file, Prices()).price


def of_the_page() -> str:
    (found,) = re.findall(r"```json\n(\{\n  \"openai/our-tuned.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


@pytest.mark.parametrize(
    ("model", "usage", "dollars"),
    [
        ("openai/our-tuned-model", Usage(input_tokens=MILLION, output_tokens=0), "2.5"),
        ("openai/our-tuned-model", Usage(input_tokens=0, output_tokens=MILLION), "10"),
        (
            "openai/our-tuned-model",
            Usage(input_tokens=MILLION, output_tokens=0, cached_tokens=MILLION),
            "0.25",
        ),
        (
            "openai/our-tuned-model",
            Usage(input_tokens=MILLION, output_tokens=0, service_tier="flex"),
            "1.25",
        ),
        (
            "openai/our-tuned-model",
            Usage(input_tokens=MILLION, output_tokens=0, service_tier="default"),
            "2.5",
        ),
        (
            "openai/our-tuned-model",
            Usage(input_tokens=MILLION, output_tokens=0, service_tier="priority"),
            None,
        ),
        (
            "anthropic/claude-haiku-4-5",
            Usage(
                input_tokens=130_213,
                output_tokens=0,
                cached_tokens=128_955,
                cache_write_tokens=1_253,
                cache_write_1h_tokens=253,
            ),
            "0.0439695",
        ),
        ("mock/mock", Usage(input_tokens=0, output_tokens=0), "0.001"),
        ("mock/mock", Usage(input_tokens=None, output_tokens=1), None),
    ],
)
def test_the_page_s_file_prices_what_it_says(
    tmp_path: Path, model: str, usage: Usage, dollars: str | None
) -> None:
    provider, _, name = model.partition("/")
    found = prices(tmp_path, of_the_page())(provider, name, usage)
    assert found == (None if dollars is None else Decimal(dollars))


def test_a_model_that_the_file_does_not_name_has_the_list_s_price(tmp_path: Path) -> None:
    usage = Usage(input_tokens=MILLION, output_tokens=MILLION)
    assert prices(tmp_path, of_the_page())("openai", "gpt-4o-mini", usage) == Decimal("0.75")
    assert prices_in(None, Prices()) == Prices()


def test_a_name_that_is_written_out_goes_before_any_pattern__and_a_pattern_before_later_ones(
    tmp_path: Path,
) -> None:
    said = {
        name: {"input": n, "output": 0}
        for n, name in enumerate(("a/*", "*", "a/b", "a/b*", "x/y@flex"), 1)
    }
    price = prices(tmp_path, json.dumps(said))
    usage = Usage(input_tokens=MILLION, output_tokens=0)
    assert [price(*name, usage) for name in (("a", "b"), ("a", "bc"), ("c", "d"))] == [3, 1, 2]


def test_a_number_is_what_is_written_to_its_last_digit(tmp_path: Path) -> None:
    said = '{"a/b": {"input": 0.1, "output": 0.3000000000000000001}}'
    price = prices(tmp_path, said)
    usage = Usage(input_tokens=0, output_tokens=MILLION)
    assert price("a", "b", usage) == Decimal("0.3000000000000000001")


def test_toml_says_the_same(tmp_path: Path) -> None:
    price = prices(tmp_path, '["a/b"]\ninput = 1\noutput = 0.5\n', name="prices.toml")
    assert price("a", "b", Usage(input_tokens=MILLION, output_tokens=MILLION)) == Decimal("1.5")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("[]", "no object"),
        ("[" * 100_000, "no JSON"),
        ('{"a/b": {"input": 1, "output": 1}, "a/b": {"input": 2, "output": 1}}', "no JSON"),
        ('{"gpt": {"input": 1, "output": 1}}', "'gpt', which is no provider/model"),
        ('{"a/b": 3}', "no prices"),
        ('{"a/b": {"input": 1}}', "lacks input or output of 'a/b'"),
        ('{"a/b": {}}', "lacks"),
        ('{"a/b": {"input": 1, "output": 1, "outptu": 1}}', "'outptu' of 'a/b'"),
        ('{"a/b": {"input": "1", "output": 1}}', "a price of input that is none"),
        ('{"a/b": {"input": -1, "output": 1}}', "a price of input that is none"),
        ('{"a/b": {"input": NaN, "output": 1}}', "a price of input that is none"),
        ('{"a/b": {"input": 1e400, "output": 1}}', "a price of input that is none"),
        ('{"a/b": {"input": true, "output": 1}}', "a price of input that is none"),
        ('{"a/b": {"input": 1, "output": 1}}' + " " * 1_000_000, "larger than"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_what_is_wrong(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"TURNMILL_PRICES: .*{why}") as refused:
        prices(tmp_path, text)
    assert refused.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_PRICES: the file cannot be read"):
        prices_in(tmp_path / "none.json", Prices())


def test_the_setting_is_read_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_env({"TURNMILL_PRICES": str(tmp_path / "prices.json")})
    assert settings.prices == tmp_path / "prices.json"
    assert Settings.from_env({}).prices is None


def test_thoughts_and_searches_may_have_prices_of_their_own(tmp_path: Path) -> None:
    said = '{"a/b": {"input": 1, "output": 2, "reasoning": 8, "search": 0.01}, "c/d": {"call": 1}}'
    price = prices(tmp_path, said)
    usage = Usage(
        input_tokens=MILLION, output_tokens=MILLION, reasoning_tokens=MILLION // 2, searches=3
    )
    assert price("a", "b", usage) == Decimal("6.03")
    assert price("c", "d", Usage(input_tokens=1, output_tokens=1)) == 1
    assert price("c", "d", usage) is None  # what a search costs is not said


def test_tools_that_a_vendor_runs_itself_may_have_prices_of_their_own(tmp_path: Path) -> None:
    said = '{"a/b": {"input": 1, "output": 2, "file_search": 0.0025, "container": 0.03}}'
    usage = Usage(input_tokens=MILLION, output_tokens=MILLION, file_searches=2, containers=3)
    assert prices(tmp_path, said)("a", "b", usage) == Decimal("3.095")
    assert prices(tmp_path, '{"a/b": {"input": 1, "output": 2}}')("a", "b", usage) is None


def test_sound_that_a_model_hears_or_speaks_itself_may_have_prices_of_its_own(
    tmp_path: Path,
) -> None:
    words = '"input": 1, "output": 2'
    said = f'{{"a/b": {{{words}, "audio_input": 9, "audio_output": 20}}, "c/d": {{{words}}}}}'
    price = prices(tmp_path, said)
    half = MILLION // 2
    usage = Usage(
        input_tokens=MILLION, output_tokens=MILLION, audio_tokens=half, audio_output_tokens=half
    )
    assert price("a", "b", usage) == 16
    assert price("c", "d", usage) == 3


def test_a_price_says_which_entry_of_the_file_it_is_by(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"a/*": {"call": 1}, "a/*@flex": {"call": 0.5}}')
    source = prices_in(file, Prices()).source
    assert source("a", "b", "") == "TURNMILL_PRICES a/*"
    assert source("a", "b", "flex") == "TURNMILL_PRICES a/*@flex"
    assert source("a", "b", "batch") == ""
    assert source("openai", "gpt-5-mini", "").endswith("openai/gpt-5-mini")


def test_a_star_alone_stands_for_anything_and_a_name_may_hold_a_version(tmp_path: Path) -> None:
    ours = prices(
        tmp_path,
        '{"anthropic/opus[1m]": {"input": 1, "output": 1},'
        ' "openai/what?": {"input": 2, "output": 1},'
        ' "anthropic/sonnet@20250514": {"input": 3, "output": 1},'
        ' "anthropic/sonnet@20250514@batch": {"input": 4, "output": 1},'
        ' "anthropic/*@batch": {"input": 5, "output": 1}}',
    )

    def of(model: str, tier: str = "") -> Decimal | None:
        provider, _, name = model.partition("/")
        return ours(provider, name, Usage(input_tokens=MILLION, output_tokens=0, service_tier=tier))

    assert of("anthropic/opus[1m]") == 1
    assert of("anthropic/opus1") is None
    assert of("openai/what?") == 2
    assert of("openai/whats") is None
    assert of("anthropic/sonnet@20250514") == 3
    assert of("anthropic/haiku", "batch") == 5


@pytest.mark.parametrize(
    ("entry", "told", "said", "dollars"),
    [
        ('{"minute": 0.006}', (0, 0), {"seconds": 60}, "0.006"),
        ('{"minute": 0.006}', (900, 40), {"type": "tokens"}, None),
        ('{"characters": 15}', (0, 0), {"characters": 1000}, "0.015"),
        ('{"characters": 15}', (9, 900), {"type": "tokens"}, None),
        ('{"characters": 15}', (0, 0), {"seconds": 60}, None),
        ('{"input": 1, "output": 2}', (0, 0), {"seconds": 60}, None),
        ('{"input": 1, "output": 2}', (0, 0), {"characters": 60}, None),
        ('{"input": 1, "output": 2, "minute": 0.006}', (0, 0), {"seconds": 60}, "0.006"),
        ('{"input": 1, "output": 2, "minute": 0.006}', (MILLION, 0), {"type": "tokens"}, "1"),
        ('{"input": 1, "output": 2}', (0, 0), {"input_tokens": 0}, "0"),
        ('{"call": 0.01}', (0, 0), {"seconds": 60}, "0.01"),
    ],
)
def test_sound_that_is_counted_by_what_has_no_price_is_unknown_and_not_free(
    tmp_path: Path,
    entry: str,
    told: tuple[int, int],
    said: dict[str, object],
    dollars: str | None,
) -> None:
    used = Usage(input_tokens=told[0], output_tokens=told[1], said=(said,))
    found = prices(tmp_path, f'{{"openai/*": {entry}}}')("openai", "m", used)
    assert found == (None if dollars is None else Decimal(dollars))


def test_the_most_that_a_call_may_cost_counts_dear_thoughts(tmp_path: Path) -> None:
    entry = '{"input": 1, "output": 2, "reasoning": 30, "cache_write": 4}'
    price = prices(tmp_path, f'{{"openai/*": {entry}}}')
    most = Usage(input_tokens=MILLION, output_tokens=MILLION, cache_write_tokens=MILLION)
    assert most_cost(price, "openai", "m", most) == 34
