"""Conversations about some subjects in several languages, made by chance from a seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

#: Words of each subject, by language; and sentences to put them in.
SUBJECTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": MappingProxyType(
            {
                "billing": "invoice payment charged receipt billing tax refund subscription",
                "delivery": "parcel shipping courier tracking delayed warehouse delivery box",
                "login": "password login locked reset email verification authenticator",
                "cooking": "recipe oven dough butter flour sauce garlic onion simmer bake",
                "travel": "flight hotel luggage airport passport booking train itinerary visa",
                "code": "python function exception compiler variable loop traceback module debug",
            }
        ),
        "de": MappingProxyType(
            {
                "billing": "Rechnung Zahlung Betrag Quittung Steuer Erstattung Gutschrift Abo",
                "delivery": "Paket Versand Bote Sendung verspätet Adresse Lager Lieferung Karton",
                "cooking": "Rezept Ofen Teig Butter Mehl Soße Knoblauch Zwiebel backen",
                "travel": "Flug Gepäck Flughafen Reisepass Buchung Bahn Visum Reise Koffer",
            }
        ),
        "es": MappingProxyType(
            {
                "billing": "factura pago importe recibo impuesto reembolso abono suscripción cuota",
                "cooking": "receta horno masa mantequilla harina salsa ajo cebolla hornear",
            }
        ),
        "zh": MappingProxyType(
            {
                "billing": "发票 付款 金额 收据 税费 退款 账单 订阅",
                "travel": "航班 酒店 行李 机场 护照 预订 火车 签证",
            }
        ),
    }
)
_SAID: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "en": (
            "I have a question about the {} and the {}.",
            "Could you please tell me why my {} is not like the {} that I had before?",
            "There was something wrong with this {}, and then the {} did not come either.",
            "Thanks, but what should I do now with the {} and {} from last week?",
        ),
        "de": (
            "Ich habe eine Frage zu der {} und zu dem {}.",
            "Können Sie mir bitte sagen, warum die {} nicht so ist wie das {} von früher?",
            "Mit dem {} war etwas nicht in Ordnung, und die {} ist auch nicht gekommen.",
            "Danke, aber was soll ich jetzt mit der {} und dem {} machen?",
        ),
        "es": (
            "Tengo una pregunta sobre la {} y el {}.",
            "¿Me puede decir por qué mi {} no es como el {} que tenía antes?",
            "Hubo algo mal con este {}, y luego la {} tampoco llegó.",
            "Gracias, pero ¿qué debo hacer ahora con la {} y el {}?",
        ),
        "zh": (
            "我想问一下{}和{}的事情。",
            "请告诉我为什么我的{}和以前的{}不一样?",
            "这个{}有问题,{}也没有来。",
            "谢谢,我现在应该怎么办理{}和{}?",
        ),
    }
)
_SHARES = MappingProxyType({"en": 0.55, "de": 0.2, "es": 0.1, "zh": 0.15})


@dataclass(frozen=True, slots=True)
class Talk:
    """What somebody has said in one session."""

    user: str
    subject: str
    language: str
    text: str


def talks(count: int, *, seed: int = 1, users: int | None = None) -> list[Talk]:
    """Return so many; the first ones are the same, however many there are."""
    dice = random.Random(seed)
    return [_talk(dice, n, users or max(count // 3, 10)) for n in range(count)]


def _talk(dice: random.Random, n: int, users: int) -> Talk:
    language = dice.choices(list(_SHARES), list(_SHARES.values()))[0]
    subject = dice.choice(list(SUBJECTS[language]))
    words = SUBJECTS[language][subject].split()
    said = [
        dice.choice(_SAID[language]).format(*dice.sample(words, 2))
        for _ in range(dice.randint(2, 6))
    ]
    if dice.random() < 0.3:
        said.append(f"Qxzname{n}ian mail{n}@example.org +49 170 {n:07}")
    return Talk(f"user-{dice.randrange(users)}", subject, language, " ".join(said))
