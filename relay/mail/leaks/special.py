"""Health and other special categories (DLP-7): words of care beside a mark of who it is about. Only ever watched.

A word alone is a newsletter of a pharmacy. It counts where the same piece of text also says who: a citizen number, or the
word for a birth date or a patient's number.
"""

from __future__ import annotations

import re

_HINTS = (
    b"ortedatum",
    b"of birth",
    b"atient",
    b"ati\xc3\xabnt",
    b"rgnummer",
)  # pieces of the marks, quickly looked for
_MARK = re.compile(
    rb"geboortedatum|date of birth|pati(?:e|\xc3\xab|\xeb)nt(?:en)?-?(?: ?nummer|nr)|patient number|zorgnummer"
)
_CARE = re.compile(
    rb"pati(?:e|\xc3\xab|\xeb)nt|diagnos[ei]|medicatie|medication|behandelplan|treatment plan|ziektebeeld|huisarts|psychiat"
    rb"|depressi[ev]|psychos[ei]|psychot|schizofreni|schizophreni|bipola?ir|epilepsi|diabet|kanker|cancer|chemotherap|hiv\b|aids\b"
    rb"|hartinfarct|heart attack|beroerte|anorexi|boulimi|opname op de afdeling|dementie|dementia"
    rb"|alzheimer|parkinson|multiple scler|verslaving|addiction|zwanger|pregnan|abortus|abortion|\bggz\b|thuiszorg|verpleeg"
    rb"|insuline?\b|metformin|oxazepam|methylfenidaat|methylphenidate|antidepressi|anticonceptie|contracepti|allergie|astma|asthma"
)


def about_somebody(data: bytes) -> bool:
    """Whether a text marks a person, other than by a BSN."""
    return any(hint in data for hint in _HINTS) and _MARK.search(data.lower()) is not None


def care_words(data: bytes) -> int:
    """How many different words of care stand in a text."""
    return len(set(_CARE.findall(data.lower())))
