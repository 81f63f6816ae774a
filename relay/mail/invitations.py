"""Words that ask to buy, beside a price or a discount: what makes an offer of it (CLASS-4).

An amount or a discount by itself is in orders, receipts, balances and bills as well, and no list of what may stand around it
there ends. So a price is a mark among others (CLASS-8), and an offer is a price with one of these words near to it. They are
few and plain, since an offer in service mail is refused for good: imperatives to buy, and what only a shop says of its prices.
Nouns are none: a quote that was asked for is an offer too, a receipt has a sale price, a letter about tariffs names discounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

NEAR = 120  # characters around a price
LONGEST = 40  # characters of such words
_IS_GONE = r"[^.!?\n]{0,40}(?:verval|ongeldig|ingetrokken|void|expired|withdrawn)"
_WORDS = re.compile(
    r"\b(?:"
    # Dutch
    r"(?:bestel|koop|shop)\s(?:nu|snel|hier|vandaag\snog|ook|direct\s(?:in|op|via|bij))\b|profiteer\b(?!\s(?:u|niet|hiervan|ervan)\b)|mis\s(?:het|deze|dit|hem)\sniet(?!:)"
    r"|(?:pak|grijp)\s(?:nu\s)?(?:je|uw|deze|dit|de)\s(?:voordeel|korting|kans)|op\s?=\s?op"
    r"|(?:bekijk|ontdek|shop|check)\s(?:nu\s|hier\s)?(?:al\s)?(?:onze|de|alle|deze|het)\s(?:\w{1,12}\s)?(?:aanbieding|deals|sale|korting)"
    r"|(?:aanbieding|actie)\s(?:geldt|loopt)\s(?:nog|alleen|slechts|maar|vandaag|dit\sweekend|deze\s|t/m|tot\sen\smet)"
    r"|win\s(?:een|nu|ook|\d)|(?:korting|aanbieding|code)\s(?:op|bij|voor)\s(?:uw|je|de|een)\s(?:eerst)?volgende"
    rf"|op\s(?:uw|je)\s(?:eerst)?volgende\s(?:bestelling|aankoop|boeking|order)(?!{_IS_GONE})"
    r"|(?:korting|off|rabatt)\s(?:op|auf)\s(?:alles|al\sons|al\sonze|het\shele|de\shele|de\sgehele|alle[ns]?)\b"
    r"|gebruik\s(?:nu\s)?(?:de\s|onze\s|deze\s|je\s|uw\s)?(?:kortingscode|actiecode)"
    r"|stap\s(?:nu|vandaag|snel)\s(?:nog\s)?over\b|upgrade\s(?:nu|vandaag|snel|now|today)"
    r"|(?:boek|reserveer)\s(?:nu|snel|vandaag\snog)\b(?!\s(?:over|via|af|naar))"
    r"|in\s(?:uw|je)\swinkelm|speciaal\svoor\s(?:u|jou)\b|zolang\sde\svoorraad(?!\sstrekt\s(?:kun|kan|mag))|wees\ser\ssnel(?!\sbij:)|cadeau\sbij\s(?:aankoop|uw|je|elke)"
    # English
    r"|don['’]?t\smiss\s(?:out|this|these|it\b|our)|limited[\s-]time|(?:use|with)\s(?:the\s)?(?:promo|discount|coupon)\s?code"
    r"|(?:use|apply)\s(?:\w{1,12}\s){0,3}at\s(?:the\s)?checkout"
    r"|off\s(?:everything|all\s|sitewide|your\s(?:first|next))|sitewide|today\sonly|(?:summer|winter|spring|final|flash)\ssale"
    rf"|on\syour\snext\s(?:order|purchase|booking)(?!{_IS_GONE})|free\sshipping\s(?:on|over|for|with|when)\b|while\sstocks?\slast"
    # German
    r"|jetzt\s(?:bestellen|kaufen|sichern|buchen|wechseln|zugreifen|sparen)|nur\sheute|ihre?n?\snächste[nr]?\s(?:bestellung|einkauf)"
    r"|solange\sder\svorrat"
    r")"
    # An English imperative is known by where it stands: "your order now ships" is none, nor "when you upgrade to Pro".
    r"|(?:^|[.!?:;>\n–-]\s{0,3})(?:(?:order|buy|book|shop|switch|join|subscribe|get)\s(?:now|today|yours|it\snow|here)"
    r"|upgrade\sto\s(?:premium|pro|plus)|special\soffer\s(?:for\syou|just|only|inside|this))\b"
)


def invites(lower: str, places: Iterable[int]) -> bool:
    """Whether a price or discount at one of `places` of a text in lower case comes with words that ask to buy."""
    done = 0
    for place in sorted(places):
        end = place + NEAR
        if _WORDS.search(lower, max(0, done - LONGEST, place - NEAR), end):
            return True
        done = end
    return False


def invitations(lower: str) -> Iterator[tuple[int, int]]:
    """Where a text says such words: the bounds in which a price may stand."""
    return ((max(0, words.start() - NEAR), words.end() + NEAR) for words in _WORDS.finditer(lower))
