"""Marks of advertising in a mail (CLASS-8): facts about head and text, without points; `policies/classification.py` weighs.

Searches are `str.find` for fixed words first and bounded expressions after, on at most 64 KB of text (MSG-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from relay.mail.entities import unescape
from relay.mail.flat import flat
from relay.mail.invitations import invitations, invites
from relay.mail.links import NEAR, OPT_OUT_WORDS, links, plain_links
from relay.mail.message import Malformed, Message
from relay.mail.mime import Part, structure
from relay.mail.texts import Texts, read_texts

HEAD_SIGNALS = ("list_unsubscribe", "list_id", "campaign_header", "precedence", "feedback_id", "marketing_mailer")
BODY_SIGNALS = ("tracking", "opt_out_word", "price", "offer", "shop_links", "survey")

_CAMPAIGN = (
    b"x-campaign",
    b"x-mailchimp",
    b"x-mc-",
    b"x-listmonk",
    b"x-mautic",
    b"x-newsletter",
    b"x-mailing-",
    b"x-csa-",
)
_MAILERS = re.compile(
    rb"\b(?:listmonk|mailchimp|mautic|sendy|phplist|klaviyo|brevo|sendinblue|laposta|mailblue|activecampaign|spotler"
    rb"|acymailing|mailpoet|copernica|hubspot|mailerlite|mailcampaigns|tripolis|deployteq|campaign ?monitor|newsletter"
    rb"|sendgrid|marketing ?cloud|myemma|constant ?contact|getresponse|cleverreach|rapidmail|mailjet|moosend|iconneqt)",
    re.IGNORECASE,
)
_PERCENT_OFF = re.compile(
    r"\d{1,3}\s?(?:%|procent|percent|prozent)\s{0,3}(?:extra\s)?(?:korting|off\b|discount|rabatt|sale\b|goedkoper|reduction)"
    r"|(?:korting|discount|rabatt|réduction)[^.\n<]{0,30}\d{1,3}\s?%"
)
_AMOUNT_OFF = re.compile(r"[€$£]\s?\d{1,5}(?:[.,]\d\d)?-?\s(?:korting|off|discount|rabatt)\b(?!\s?[(:|])")
_ONLY_EURO = re.compile(
    r"\b(?:nu|slechts|now|only|nur|jetzt)\s(?:voor\s|for\s|maar\s)?(?:eur\s)?\d{1,5}(?:[.,]\d\d)?(?:,-|\s?(?:euro|eur)\b|\b)"
)
_OFFERS = (_PERCENT_OFF, _AMOUNT_OFF, _ONLY_EURO)
_EURO = ("euro", "eur ", ",-")
_BARGAINS = ("voor de prijs van", "halve prijs", "1+1 gratis", "1 + 1 gratis")
_ONLY = re.compile(
    r"(?<!\w)(?:nu|now|only|maar|slechts|nur|vanaf|from|jetzt)(?:\s(?:voor|for|slechts|maar|only))?\s{1,3}$"
)
# What follows an amount that somebody owes: "U hoeft nu € 40,00 te betalen", "only € 5.00 is still due".
_OWED = re.compile(
    r"[€$£]\s?[\d.,]{1,12}-?[\s*]{1,3}(?:\w{1,12}\s){0,3}?(?:te\s(?:betalen|voldoen|ontvangen)|open\b|openstaan|verschuldigd|betaald"
    r"|to\s(?:pay|be\spaid)|due\b|outstanding|owed\b|paid\b|zu\s(?:zahlen|bezahlen)|offen\b|fällig)"
)
# The discount of a bill for who pays early: "Betalingskorting 2% bij betaling binnen 8 dagen". More is an offer.
_PAID_EARLY = re.compile(
    r"betalingskorting|contantkorting|(?:bij|indien|mits|wanneer|als)\s(?:\w{1,12}\s){0,3}?(?:betaling|betaald|betaalt)\sbinnen"
    r"|(?:if|when|for)\s(?:\w{1,12}\s){0,2}?(?:paid|pay|payment)\s(?:\w{1,12}\s)?within|(?:early|prompt)[\s-]payment"
    r"|bei\szahlung\s(?:\w{1,12}\s)?(?:innerhalb|binnen)"
)
_SHARE = re.compile(r"(?<!\d)(\d{1,3})(?:[.,]\d{1,2})?\s?(?:%|procent|percent|prozent)")
MAX_PAID_EARLY = 5  # percent
_PERCENT = ("%", "procent", "percent", "prozent")
_MONEY = r"(?:€|eur|\$|£)?\s?"
_BETWEEN = r"[\s<|():*='\"]{0,80}+"
_BOOKED = re.compile(rf"{_BETWEEN}{_MONEY}[-\u2212\u2013]\s?{_MONEY}\d{{1,6}}(?:[.,]\d\d)?-?\s{{0,20}}(?:[\n<|]|$)")
_BOOKED_CODE = re.compile(rf"\w{{0,12}}+{_BETWEEN}(?:[\w-]{{1,24}})?{_BOOKED.pattern}")
MAX_ROW = 1_000  # characters in which the rest of a row of an account is looked for
MAX_AMOUNTS = 200  # amounts looked at
_DISCOUNT_WORDS = (
    "kortingscode",
    "kortingsactie",
    "actieprijs",
    "actiecode",
    "discount code",
    "promo code",
    "promocode",
    "coupon",
    "voucher code",
    "rabattcode",
    "gutscheincode",
    "code promo",
    "aanbieding van de week",
    "limited time offer",
)
_SURVEY_WORDS = (
    "beoordeel ons",
    "laat een review achter",
    "schrijf een review",
    "leave a review",
    "leave us a review",
    "write a review",
    "satisfaction survey",
    "take our survey",
    "bewerten sie uns",
    "kundenzufriedenheit",
)
# "The rate used" asks nothing, nor does "hoe tevreden u ook bent".
_SURVEY = re.compile(
    r"\brate\s(?:us|your\sexperience)\b|\bhoe\stevreden\s(?:bent?|was|waren)\b"
    r"|\b(?:mee|deel|vul|ons|onze|dit|een|kort|korte|naar\shet)\s(?:aan\s|aan\sons\s|aan\shet\s|kort\s|korte\s){0,2}\w{0,12}(?:tevredenheids|klant)onderzoek"
)
_SURVEY_HINTS = ("rate ", "hoe tevreden", "onderzoek")
_TAG = re.compile(r"<[^<>]*+>")
_SHOP_PATHS = (
    "/shop",
    "/product",
    "/winkel",
    "/artikel",
    "/aanbieding",
    "/sale",
    "/collection",
    "/cart",
    "/deal",
    "/koop",
)
_SHOP_HOSTS = ("shop.", "webshop.", "winkel.", "store.")
_REDIRECT = re.compile(
    r"/(?:c|cl|click|track|r|ls|link|wf|trk|redirect|go|e)/[\w%=-]{8,}|[?&](?:url|redirect|target|u)=http"
)
_PIXEL_SIZE = re.compile(r"""\b(?:width|height)\s{0,5}[=:]\s{0,5}["']?[01](?:px)?(?![\d.%])""")
MAX_PIXELS = 200  # images looked at
_DRAWN = ("<img", "background-image", "<image", "<svg", "<picture", "<video", "<object", "<embed")
_GROUND = re.compile(r"background\s{0,5}(?:=|:[^;\"'<>]{0,100}url)")
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".bmp", ".avif", ".heic")


def head_signals(message: Message) -> frozenset[str]:
    """The marks in the header section."""
    found = set()
    for name, raw in message.fields:
        if name in _NAMED:
            found.add(_NAMED[name])
        elif name == b"precedence":
            if raw[11:].strip().lower() in (b"bulk", b"list", b"junk"):
                found.add("precedence")
        elif name in (b"x-mailer", b"user-agent"):
            if _MAILERS.search(raw):
                found.add("marketing_mailer")
        elif name.startswith(b"x-") and name.startswith(_CAMPAIGN):
            found.add("campaign_header")
    return frozenset(found)


_NAMED = {b"list-unsubscribe": "list_unsubscribe", b"list-id": "list_id", b"feedback-id": "feedback_id"}


def body_signals(texts: Texts) -> frozenset[str]:
    """The marks in the shown text."""
    html, plain = texts.html.lower(), texts.plain.lower()
    both = f"{html}\n{plain}"
    targets = links(html) if html else plain_links(plain)
    found = set()
    if _has_pixel(html) and sum(1 for target in targets if _REDIRECT.search(target[:500])) >= 2:
        found.add("tracking")
    if any(_word_at_link(both, word) for word in OPT_OUT_WORDS):
        found.add("opt_out_word")
    found |= _priced(both, _code_places(both), _price_places(both))
    if len({target for target in targets if _is_shop_link(target, _SHOP_HOSTS)}) > 3:
        found.add("shop_links")
    if _is_survey(both):
        found.add("survey")
    if html and not found.issuperset(("offer", "survey")):
        found |= _as_read(flat(html))
    return frozenset(found)


def _as_read(lines: str) -> set[str]:
    """The marks that HTML keeps apart: an entity, a tag or a line end stands between the words."""
    words = lines.replace("\n", " ")
    found = _priced(words, _code_places(words, lines), _price_places(lines))
    return found | ({"survey"} if _is_survey(words) else set())


def _is_survey(text: str) -> bool:
    return _has_word(text, _SURVEY_WORDS) or (_has_word(text, _SURVEY_HINTS) and _SURVEY.search(text) is not None)


def _has_word(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def confirm_blemishes(message: Message) -> frozenset[str]:
    """What a confirmation mail may not hold (CLASS-7): images, in the text or beside it, shop links, prices, surveys."""
    made = structure(message)
    has_picture = not isinstance(made, Malformed) and any(_is_picture(part) for part in made.leaves)
    return text_blemishes(read_texts(message)) | ({"image"} if has_picture else frozenset())


def _is_picture(part: Part) -> bool:
    return part.content_type.startswith("image/") or part.filename.lower().endswith(_PICTURES)


def text_blemishes(texts: Texts) -> frozenset[str]:
    """Those of them that stand in the text."""
    found = set(body_signals(texts) & {"price", "survey", "tracking"})
    html = texts.html.lower()
    if any(mark in html for mark in _DRAWN) or _GROUND.search(html):
        found.add("image")
    targets = links(html) + plain_links(texts.plain.lower())
    if any(_is_shop_link(target) for target in targets):
        found.add("shop_link")
    return frozenset(found)


def _priced(text: str, *places: Iterable[int]) -> set[str]:
    """The marks of a text with prices, codes or discounts at `places`: an offer where somebody is asked to buy."""
    found = list(islice(chain(*places), MAX_AMOUNTS))
    if invites(text, found) or (sum(map(text.count, "€$£%")) > MAX_AMOUNTS and _is_offered(text)):
        return {"price", "offer"}
    return {"price"} if found else set()


def _is_offered(lower: str) -> bool:
    """Whether words that ask to buy come with an offer, in a text with more amounts than are looked at one by one."""
    return any(
        any(offer.search(lower, start, end) for offer in _OFFERS) or _has_word(lower[start:end], _DISCOUNT_WORDS)
        for start, end in invitations(lower)
    )


def _price_places(lower: str) -> Iterator[int]:
    """Where a percentage off stands, or an amount with "now" or "only" in front; a plain amount, as on an invoice, is none, nor
    is one that is owed, nor a discount that was given, as in the account of an order.
    """
    percents = (place for sign in _PERCENT for place in _places(lower, sign))
    offs = (found for place in percents for found in _PERCENT_OFF.finditer(lower, max(0, place - 60), place + 60))
    found = {off.end(): off.start() for off in offs}  # most are near to more than one sign
    for end, start in islice(found.items(), MAX_AMOUNTS):
        if not _is_booked(lower, end) and not _is_paid_early(lower, start, end):
            yield start
    for sign in "€$£":
        for place in _places(lower, sign):
            praised = _ONLY.search(lower[max(0, place - 20) : place]) is not None
            off = _AMOUNT_OFF.match(lower, place)
            if (praised and not _OWED.match(lower, place, place + 80)) or (off and not _is_booked(lower, off.end())):
                yield place
    yield from _worded(lower)


def _worded(lower: str) -> Iterator[int]:
    """Where an amount stands with its currency in letters, and what only a shop calls a price."""
    for word in _EURO:
        for place in _places(lower, word):
            found = _ONLY_EURO.search(lower, max(0, place - 24), place + 16)
            if found and found.start() <= place <= found.end():
                yield place
    for word in _BARGAINS:
        yield from _places(lower, word)


def _code_places(lower: str, lines: str = "") -> Iterator[int]:
    """Where a code to buy with stands; `lines` is the same text with its line ends, where `lower` has none."""
    ends = ((place, place + len(word)) for word in _DISCOUNT_WORDS for place in _places(lower, word))
    for place, end in islice(ends, MAX_AMOUNTS):
        if not _is_booked(lines or lower, end, _BOOKED_CODE):
            yield place


def _is_paid_early(lower: str, start: int, end: int) -> bool:
    """Whether the discount that stands there is for who pays a bill soon."""
    share = _SHARE.search(lower, max(0, start - 3), end)
    line = lower[max(0, start - 40) : start].rpartition("\n")[2] + lower[start : end + 60].partition("\n")[0]
    return share is not None and int(share[1]) <= MAX_PAID_EARLY and _PAID_EARLY.search(line) is not None


def _is_booked(lower: str, end: int, row: re.Pattern[str] = _BOOKED) -> bool:
    """Whether what ends there is a row of an account: the discount that was given, with what it took off and nothing after it."""
    rest = _TAG.sub("<", lower[end : end + MAX_ROW])
    return row.match(unescape(rest) if "&" in rest else rest) is not None


def _places(lower: str, sign: str) -> list[int]:
    found: list[int] = []
    place = lower.find(sign)
    while place >= 0 and len(found) < MAX_AMOUNTS:
        found.append(place)
        place = lower.find(sign, place + 1)
    return found


def _is_shop_link(target: str, hosts: tuple[str, ...] = ()) -> bool:
    """A link into a shop by its path, or by the first label of its host where `hosts` are given."""
    host, _, path = target.partition("://")[2].partition("/")
    return any(mark in f"/{path}" for mark in _SHOP_PATHS) or (bool(hosts) and host.startswith(hosts))


def _word_at_link(lower: str, word: str) -> bool:
    place = lower.rfind(word)
    if place < 0:
        return False
    near = lower[max(0, place - NEAR) : place + NEAR]
    return "href" in near or "http" in near or "mailto:" in near


def _has_pixel(html: str) -> bool:
    place, seen = html.find("<img"), 0
    while place >= 0 and seen < MAX_PIXELS:
        end = html.find(">", place)
        if end < 0:
            return False
        if len(_PIXEL_SIZE.findall(html, place, min(end, place + 2_000))) >= 2:
            return True
        seen += 1
        place = html.find("<img", end)
    return False
