"""Which contrast phase an image is, as far as its texts and times tell; evidence from images can be merged in.

Texts are read in English, German, French, Spanish, Italian, Portuguese, Dutch, Chinese and Japanese. A text itself
never appears in a reason, because technicians write names into series descriptions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from .phases import ALL_PHASES, Phase, in_order

DECISION_CONFIDENCE = 0.6
"""Below this confidence the user is asked. A protocol's name suffices, a contrast agent that is not noted does not."""
TEXT_CONFIDENCE = 0.9
"""Series descriptions are typed or preset per series; one in ten is left over from another phase (our estimate)."""
INJECTION_CONFIDENCE = 0.8
"""The start of the injection is written by the injector or, less surely, typed in."""
PROTOCOL_CONFIDENCE = 0.7
"""One protocol often serves several phases; its name is read only where the series description says nothing."""
ORDER_CONFIDENCE = 0.65
"""Four acquisitions with the pauses of a liver protocol are the four phases, unless a text says otherwise."""
NO_CONTRAST_CONFIDENCE = 0.4
"""A missing contrast agent often means that nobody filled in the field."""

INJECTION_WINDOWS_S = {Phase.AP: (15.0, 48.0), Phase.PVP: (52.0, 110.0), Phase.DELAY: (150.0, 900.0)}
"""Seconds from the start of the injection to the phase: the protocols' 25-45, 60-80 and 180-300 s, with margin."""
NATIVE_TO_ARTERIAL_S = (30.0, 3600.0)
ARTERIAL_TO_PORTAL_S = (15.0, 60.0)
PORTAL_TO_DELAYED_S = (60.0, 900.0)


@dataclass(frozen=True)
class PhaseEvidence:
    """What one source says about the phase of an image.

    Args:
        phase: The phase it points to; None when it says nothing, or several things.
        confidence: How surely, 0 to 1; 0 when ``phase`` is None.
        reasons: Why, in words that hold no text of the image's header.
    """

    phase: Phase | None = None
    confidence: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def is_decisive(self) -> bool:
        """Whether the phase can be taken without asking the user."""
        return self.phase is not None and self.confidence >= DECISION_CONFIDENCE


_WITH_AND_WITHOUT = (
    r"\bw(?:ith)?\s*(?:and|und|[/&+,-])?\s*w\s*/?\s*o(?:ut)?\b|with (?:and|or) without|con y sin|mit und ohne"
)
_SECONDS = r"(?<!\d)(\d{2,3})\s*(?:s|sec|secs|sek|seg|seconds|秒)(?![a-z])"
_MINUTES = r"(?<!\d)(\d{1,2})\s*-?\s*(?:m|min|mins|minutes?|minuten|minutos|minuti|分)(?![a-z])"

_PATTERNS: dict[Phase, str] = {
    Phase.NC: (
        r"\b(?:nc|nect|ncct|native?|nativ[oa]s?|unenhanced|nativphase|leerphase|blanco|basale?|plain|smdc)\b"
        r"|\bnon[ -]?(?:contrast|enhanced|injecte|ce)|\bpre[ -]?(?:contrast|kontrast|contraste|mdc|km|inj)"
        r"|\b(?:without|w/o|wo|no|ohne|sans|sin|senza|sem|zonder) ?(?:iv |i\.v\. )?"
        r"(?:contrast|contrat|kontrast|km|mdc|injection|inj|iv|ic|civ|pdc)"
        r"|(?<![a-z])(?:c|iv)-(?![a-z0-9])|平[扫掃]|[单単單]純|非造影|造影(?:前|なし)|(?:前|无)造影"
    ),
    Phase.AP: (
        r"^ap$|\b(?:hap|art)\b|\bap phase\b|\barteri(?:al|ell|el|elle|eel|ele|osa|oso)"
        r"|动脉|動脈(?!門)"
    ),
    Phase.PVP: (
        r"\b(?:pvp?|vp|pven|ven)\b|\bport(?:al|o|ale|aal|alvenos|alveneus)|\bven(?:ous|os|ose|oes|euse?|osa|oso|eus|euze)"
        r"|\bvein(?:eux|euse)|门[静靜]?脉|門[静靜]?脈|(?<!门)(?<!門)[静靜][脉脈]"
    ),
    Phase.DELAY: (
        r"\bdelay(?! *\d+ *s)|\bequilibr|\bspaet|\bspat(?!i)|\btardi[fvao]|\bexcretory|\blate\b|\blaat\b|\blate fase"
        r"|\bwash ?-?out|延[迟遲]|延期|遅延|平衡|排泄"
    ),
}
_LATE_OF_ANOTHER = (
    r"\b(?:late|spat|spaet|laat)[ -]?(?=art|port|hap|pv)|(?<=arteri(?:el|al)) tardi[afo]|(?<=arteriosa) tardiva"
)


def phases_in_text(text: str) -> tuple[Phase, ...]:
    """Return the phases that a text names, in the order of acquisition; empty when it names none."""
    plain = _plain(text)
    has_both = re.search(_WITH_AND_WITHOUT, plain) is not None
    plain = re.sub(_LATE_OF_ANOTHER, " ", re.sub(_WITH_AND_WITHOUT, " ", plain))
    named = {phase for phase, pattern in _PATTERNS.items() if re.search(pattern, plain)}
    if not named:
        named = _phases_of_times(plain)
    return in_order(named - {Phase.NC} if has_both else named)


def phase_from_text(text: str, *, where: str, confidence: float = TEXT_CONFIDENCE) -> PhaseEvidence:
    """Return what a text says.

    Args:
        text: For example a series description; only its meaning leaves this function.
        where: What the text is, for the reason.
        confidence: How far such texts can be trusted, 0 to 1.

    Returns:
        Evidence without a phase when the text names none or several.
    """
    named = phases_in_text(text)
    if len(named) > 1:
        return PhaseEvidence(reasons=(f"the {where} names several phases: {', '.join(named)}",))
    return PhaseEvidence(named[0], confidence, (f"the {where} names {named[0]}",)) if named else PhaseEvidence()


def phase_from_tags(
    series_description: str,
    protocol_name: str,
    *,
    has_contrast: bool,
    seconds_after_injection: float | None = None,
) -> PhaseEvidence:
    """Return what the tags of one DICOM series say about its phase.

    Args:
        series_description: Text of the series; trusted before the protocol's.
        protocol_name: Text of the scanner's protocol; used when the description says nothing.
        has_contrast: Whether a contrast agent is noted.
        seconds_after_injection: Start of the acquisition after the start of the injection, if both are noted.
    """
    text = phase_from_text(series_description, where="series description")
    if text.phase is None and not text.reasons:
        text = phase_from_text(protocol_name, where="protocol name", confidence=PROTOCOL_CONFIDENCE)
    evidences = [text, _phase_from_injection(seconds_after_injection)]
    if text.phase is None and not has_contrast and seconds_after_injection is None:
        evidences.append(PhaseEvidence(Phase.NC, NO_CONTRAST_CONFIDENCE, ("no contrast agent is noted",)))
    return merge_evidence(evidences)


def phases_from_order(offsets_s: Sequence[float]) -> tuple[PhaseEvidence, ...]:
    """Return what the times of an examination's acquisitions say.

    Args:
        offsets_s: Start of each acquisition in seconds, ascending.

    Returns:
        One evidence per acquisition; without phases unless there are four with the pauses of a liver protocol.
    """
    silent = tuple(PhaseEvidence() for _ in offsets_s)
    if len(offsets_s) != len(ALL_PHASES):
        return silent
    windows = (NATIVE_TO_ARTERIAL_S, ARTERIAL_TO_PORTAL_S, PORTAL_TO_DELAYED_S)
    pauses = (later - earlier for earlier, later in pairwise(offsets_s))
    if not all(_within(pause, window) for pause, window in zip(pauses, windows, strict=True)):
        return silent
    reason = "four acquisitions with the pauses of a liver protocol"
    return tuple(PhaseEvidence(phase, ORDER_CONFIDENCE, (reason,)) for phase in ALL_PHASES)


def merge_evidence(evidences: Sequence[PhaseEvidence]) -> PhaseEvidence:
    """Combine independent evidence about one image.

    Agreeing evidence of confidences c becomes 1 - prod(1 - c); what speaks for another phase lowers it by the factor
    (1 - the other phase's confidence), so that two equally strong contradictions leave the matter open.
    """
    reasons = tuple(dict.fromkeys(reason for evidence in evidences for reason in evidence.reasons))
    total = {
        phase: 1 - prod(1 - evidence.confidence for evidence in evidences if evidence.phase is phase)
        for phase in ALL_PHASES
    }
    best, second = sorted(ALL_PHASES, key=lambda phase: total[phase], reverse=True)[:2]
    if total[best] == 0:
        return PhaseEvidence(reasons=reasons)
    return PhaseEvidence(best, total[best] * (1 - total[second]), reasons)


def _phase_from_injection(seconds: float | None) -> PhaseEvidence:
    if seconds is None:
        return PhaseEvidence()
    reason = (f"it began {seconds:.0f} s after the start of the injection",)
    if seconds < 0:
        return PhaseEvidence(Phase.NC, INJECTION_CONFIDENCE, (f"it began {-seconds:.0f} s before the injection",))
    for phase, window in INJECTION_WINDOWS_S.items():
        if _within(seconds, window):
            return PhaseEvidence(phase, INJECTION_CONFIDENCE, reason)
    return PhaseEvidence(reasons=reason)


def _phases_of_times(plain: str) -> set[Phase]:
    seconds = [float(value) for value in re.findall(_SECONDS, plain)]
    seconds += [60.0 * float(value) for value in re.findall(_MINUTES, plain)]
    return {phase for value in seconds for phase, window in INJECTION_WINDOWS_S.items() if _within(value, window)}


def _within(value: float, window: tuple[float, float]) -> bool:
    return window[0] <= value <= window[1]


def _plain(text: str) -> str:
    """Return the text in lower case, without accents (ä, ö, ü as a, o, u) and with underscores as spaces."""
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[_,;:()\[\]]", " ", letters.lower()).split())
