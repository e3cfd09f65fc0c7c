"""What a turn says in a vendor's batch: as in a call of its own, without what only those know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import Any

from turnmill.domain.adoption import AS_CONVERSATION, THREAD
from turnmill.domain.budgets import PLACES
from turnmill.domain.errors import KeyMissing, NotSent, ProviderError, Rejected
from turnmill.domain.reply_limits import laid_over
from turnmill.store.records import Claim
from turnmill_worker.providers.batch_port import TIER, UNSUPPORTED, Batches, Line, TakesBatches
from turnmill_worker.providers.boundary import cost_of, error_of, provided, taken_by
from turnmill_worker.providers.counting import most_cost, most_of
from turnmill_worker.providers.files import holds_attachments
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.port import Bounds, Provider, Request, Usage
from turnmill_worker.tools.form import form_refused
from turnmill_worker.tools.schemas import SchemaRefused, require_usable
from turnmill_worker.turn.attempt import request_of

#: Returns the price of what was used, by provider and model.
Price = Callable[[str, str, Usage], Decimal | None]

#: Settings of a session whose turns are more than one call, or go through more than their vendor.
_OF_CALLS = ("layers", "tools")
#: Bytes of a line that are one token at the least, as a vendor counts those that wait.
_BYTES_OF_TOKEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A turn as a line, and what it takes of a vendor's bounds."""

    claim: Claim = field(repr=False)
    batches: Batches = field(repr=False)
    request: Request = field(repr=False)
    endpoint: str
    line: Line

    @property
    def group(self) -> tuple[str, str, str]:
        """Return what all lines of a shard have in common."""
        return self.claim.provider, self.claim.model, self.endpoint

    @property
    def tokens(self) -> int:
        """Return how many tokens may wait for it at the vendor, rather too many than too few."""
        return tokens_of(self.line)


def tokens_of(line: Line) -> int:
    """Return how many tokens may wait for it at the vendor, rather too many than too few."""
    return len(line.body) // _BYTES_OF_TOKEN + 1


@dataclass(frozen=True, slots=True)
class Unsuited:
    """The turn can be asked in a call of its own alone, because of this."""

    because: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """The turn cannot be said to its vendor at all."""

    error: ProviderError


class Saying:
    """Puts turns into lines. Asks no vendor anything."""

    def __init__(
        self,
        find: Callable[[str], Provider],
        *,
        layered: bool = False,
        parameters: Callable[[str], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """`layered`: the operator has layers around calls, which no batch goes through.

        `parameters` are those that the operator gives to a `provider/model`.
        """
        self._find = find
        self.is_layered = layered
        self._parameters = parameters

    def batches_of(self, provider: str) -> Batches:
        """Return a provider's batches. Raises ProviderError where there are none."""
        found = provided(self._find, provider)
        if isinstance(found, ProviderError):
            raise found
        if not isinstance(found, TakesBatches):
            raise Rejected(UNSUPPORTED, detail=provider)
        return found.batches

    def account_of(self, provider: str) -> str:
        """Return under which account this process calls a provider; "" for none."""
        account = getattr(provided(self._find, provider), "account", "")
        return account if isinstance(account, str) else ""

    def say(self, claim: Claim) -> Said | Unsuited | Wrong:
        """Return the turn as a line, or why it is none. Raises KeyMissing, and NotSent."""
        if because := self._unsuited(claim):
            return Unsuited(because)
        try:
            batches = self.batches_of(claim.provider)
        except (KeyMissing, NotSent):
            raise
        except ProviderError as error:
            return Unsuited(error.error_code)
        try:
            return self._said(claim, batches)
        except Exception as error:  # noqa: BLE001
            # The edge to a provider, which may be anybody's.
            return Wrong(error_of(error))

    def bound_of(self, one: Said, price: Price) -> Decimal | None:
        """Return what a line may cost at the most; None: nobody can tell.

        As replies are priced: where no list knows a price in batches it is one half.
        """
        provider, claim = self._find(one.claim.provider), one.claim
        if not isinstance(provider, Bounds):
            return None
        most = replace(most_of(provider, one.request, ()), service_tier=TIER)
        cost = most_cost(price, claim.provider, claim.model, most, serves_tier=True)
        if cost is not None:
            return cost
        by_itself = replace(most, service_tier="")
        cost = most_cost(price, claim.provider, claim.model, by_itself)
        # To the last place that is kept: a sum of what was rounded on its way comes back in part.
        return None if cost is None else (cost / 2).quantize(PLACES, rounding=ROUND_CEILING)

    def is_priced(self, one: Said, price: Price) -> bool:
        """Tell whether anybody knows what its model costs, in a batch or by itself."""
        claim, least = one.claim, Usage(input_tokens=1, output_tokens=1)
        tiers = (replace(least, service_tier=TIER), least)
        found = (cost_of(partial(price, claim.provider, claim.model, used)) for used in tiers)
        return any(cost is not None for cost in found)

    def _said(self, claim: Claim, batches: Batches) -> Said | Unsuited:
        provider = self._find(claim.provider)
        request = _request_of(claim, self._parameters(f"{claim.provider}/{claim.model}"))
        if holds_attachments(request):
            return Unsuited("attachments")
        if request.output_schema is not None:
            _require_form(request.output_schema)
        request = fitted(request, name=claim.provider, takes=taken_by(provider))
        line = Line(str(claim.turn_id), batches.body_of(request, str(claim.turn_id)))
        endpoint = batches.endpoint_of(request)
        return Said(claim=claim, batches=batches, request=request, endpoint=endpoint, line=line)

    def _unsuited(self, claim: Claim) -> str:
        if claim.reply_as == "audio":
            return "audio"
        if claim.settings.get(THREAD) == AS_CONVERSATION:
            return "conversation"
        return next((one for one in _OF_CALLS if claim.settings.get(one)), "")


def _require_form(schema: Mapping[str, Any]) -> None:
    try:
        require_usable(schema)
    except SchemaRefused as refused:
        raise form_refused(refused) from None


def _request_of(claim: Claim, parameters: Mapping[str, Any]) -> Request:
    schema = claim.settings.get("response_format")
    return replace(
        request_of(claim),
        settings=laid_over(parameters, claim.settings),
        output_schema=schema if isinstance(schema, dict) else None,
    )
