"""From standings to sentences: which model to use, or that the data cannot tell; and what attention was worth.

Pure: numbers in, words out. Arms that know more than these pictures could teach them, and arms from scratch, are judged
apart, and only then held against each other, which is said. An arm that knows held-out pictures is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vitreous.comparison.statistics import Difference, Right, difference, needed, over_pictures

_ALIKE = 1.15  # ratio below which two latencies are called the same
_REACH = 10**6  # pictures; beyond, a number of them is no advice


class Contender(Protocol):
    """What a verdict needs to know of an arm."""

    @property
    def name(self) -> str: ...
    @property
    def right(self) -> Right: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def validation(self) -> float: ...
    @property
    def is_scratch(self) -> bool: ...
    @property
    def mixer(self) -> str | None: ...
    @property
    def teacher(self) -> str: ...
    @property
    def untaught(self) -> str: ...
    @property
    def leak(self) -> str: ...
    @property
    def latency_ms(self) -> float | None: ...


class Pair(NamedTuple):
    """Two arms, and the first less the second."""

    first: Contender
    second: Contender
    found: Difference

    def named(self) -> tuple[str, str, Difference]:
        """Without the arms."""
        return self.first.name, self.second.name, self.found


def pair(a: Contender, b: Contender) -> Pair:
    """The two, the one that is better on test first."""
    found = difference(a.right, b.right)
    return Pair(a, b, found) if found.value >= 0 else Pair(b, a, found.reversed())


class Judgement(NamedTuple):
    """The verdict in one sentence, what else is to be said, and the pairs that were held against each other.

    ``use`` is the name of the arm that the verdict says to take; empty where it recommends none.
    """

    verdict: str
    remarks: list[str]
    pairs: list[Pair]
    use: str = ""


def judge(arms: Sequence[Contender], *, share: float = 0.15, guess: float = 0.0) -> Judgement:
    """The verdict on arms that all learned from all pictures.

    Args:
        arms: those with finished runs, in any order.
        share: of all pictures that the test part is, for advice on how many more there should be.
        guess: share of the test part that always naming its commonest class gets right.
    """
    flattered = [arm for arm in arms if arm.leak]
    ranked = sorted((arm for arm in arms if not arm.leak), key=lambda arm: -arm.validation)
    kinds = [[arm for arm in ranked if arm.is_scratch is scratch] for scratch in (True, False)]
    said = [f"{arm.name} is not judged, whatever its score. {arm.leak}" for arm in flattered]
    if not ranked:
        if flattered:
            return Judgement(
                "All arms that finished know held-out pictures, so none is judged; compare others.", said, []
            )
        return Judgement("No arm finished, so there is nothing to compare; the reasons are in the table.", [], [])
    best = max(ranked, key=lambda arm: arm.accuracy)
    if over_pictures(best.right)[0] <= guess:  # then nor can it be shown what attention or a teacher was worth
        held = [*([pair(*ranked[:2])] if len(ranked) > 1 else []), *attention(ranked)[1], *teaching(ranked)[1]]
        return Judgement(_nothing(best, guess), said, distinct(held))
    if all(kinds):
        judged = _both(kinds[0], kinds[1], share)
    elif len(ranked) == 1:
        only = ranked[0]
        low, high = over_pictures(only.right)
        text = (
            f"{only.name} gets {only.accuracy:.1%} of the test pictures right (95 % interval {low:.1%} to {high:.1%}); "
            f"there is no other that {'can be judged' if flattered else 'finished'} to compare it with."
        )
        judged = Judgement(text, [], [], only.name)
    else:
        top = pair(*ranked[:2])
        judged = Judgement(sentence(top, share), [], [top], choice(top).name)
    for remarks, pairs in (_named(ranked, share), attention(ranked), teaching(ranked)):
        judged = judged._replace(remarks=[*judged.remarks, *remarks], pairs=[*judged.pairs, *pairs])
    return judged._replace(remarks=[*judged.remarks, *said], pairs=distinct(judged.pairs))


def _named(ranked: Sequence[Contender], share: float) -> tuple[list[str], list[Pair]]:
    """The best two without the twins, that nobody asked for, where one of these is among the best two from scratch."""
    scratch = [arm for arm in ranked if arm.is_scratch]
    named = [arm for arm in scratch if arm.mixer in (None, "attention")]
    if len(named) < 2 or named[:2] == scratch[:2]:
        return [], []
    top = pair(*named[:2])
    return [f"Without the twins of {_owner(named)}: {sentence(top, share)}"], [top]


def _owner(named: Sequence[Contender]) -> str:
    return next((arm.name for arm in named if arm.mixer == "attention"), "the transformer")


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs without those that were held against each other before, either way round."""
    first: dict[frozenset[str], Pair] = {}
    for each in pairs:
        first.setdefault(frozenset((each.first.name, each.second.name)), each)
    return list(first.values())


def _nothing(best: Contender, guess: float) -> str:
    """That no arm is to be recommended; the test part may be too small to show what it has learned."""
    low, high = over_pictures(best.right)
    return (
        f"No model can be shown to have learned to tell these classes: the best on test, {best.name}, gets "
        f"{best.accuracy:.1%} right (95 % interval {low:.1%} to {high:.1%}), and always naming the commonest class "
        f"{guess:.1%}; give them a longer --budget, or more pictures."
    )


def _both(scratch: list[Contender], begun: list[Contender], share: float) -> Judgement:
    """Arms of both kinds: the best of each, and each kind's own verdict as a remark."""
    top = pair(begun[0], scratch[0])
    fair = "they differ in what they began with, not only in the network"
    if begun[0].teacher:
        fair = f"{begun[0].name} was taught by what knows more than these pictures, so not only the network differs"
    verdict = f"{sentence(top, share)[:-1]}; {fair}."
    remarks, pairs = [], [top]
    for words, kind in (("From scratch", scratch), ("With weights or a teacher from elsewhere", begun)):
        if len(kind) > 1:
            own = pair(*kind[:2])
            pairs.append(own)
            remarks.append(f"{words}: {sentence(own, share)}")
        else:
            remarks.append(f"{words} there is only {kind[0].name}, with {kind[0].accuracy:.1%} on test.")
    return Judgement(verdict, remarks, pairs, choice(top).name)


def choice(top: Pair) -> Contender:
    """Which of the two to take: the better one where that is told, else what answers faster."""
    cheap = None if top.found.told else _cheaper(top.first, top.second)
    return cheap[0] if cheap else top.first


def sentence(top: Pair, share: float) -> str:
    """Which of the top two to use, or what it would take to tell."""
    if top.found.told:
        text = f"Use {top.first.name}: {top.first.accuracy:.1%} of the test pictures right, "
        text += f"{gap(top.found)} more than {top.second.name}{_cost(top.first, top.second)}"
        return f"{text}{of_seeds(top.found)}."
    cheap = _cheaper(top.first, top.second)
    text = f"The data cannot tell {top.first.name} from {top.second.name}: they differ by {gap(top.found)}"
    text += f"; take {cheap[0].name}, which {cheap[1]}" if cheap else "; either will do"
    return f"{text}; {advice(top.found, share)}{of_seeds(top.found)}."


def gap(found: Difference, *, signed: bool = False) -> str:
    """A difference in points, with its interval."""
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.value:{'+' if signed else ''}.1f} points (95 % interval {low:.1f} to {high:.1f})"


def advice(found: Difference, share: float) -> str:
    """How many more pictures or seeds would tell, should the difference be what it seems."""
    if found.value == 0:
        return "they were right equally often, so no number of pictures or seeds would tell if that is how it is"
    need = needed(found)
    ways = []
    if need.pictures is not None and need.pictures < _REACH:
        more = max(need.pictures - found.pictures, 1)
        many = f"{_round(more):,} more test picture{'s' if _round(more) > 1 else ''}"
        ways.append(f"about {many} ({_round(more / share):,} more in all, at this split)")
    if need.seeds is not None and need.seeds <= 100 and found.seeds > 1:
        seeds = max(need.seeds - found.seeds, 1)
        ways.append(f"about {seeds} more seed{'s' if seeds > 1 else ''}")
    if not ways:
        return "no number of test pictures or of seeds that one can have would, alone, tell so small a difference"
    return f"{' or '.join(ways)} would tell, if the difference is as large as it looks"


def attention(ranked: Sequence[Contender]) -> tuple[list[str], list[Pair]]:
    """Whether the transformer was better than the same network without attention, and with convolutions instead."""
    # twins are from scratch, so that is what they are held against; the best of several goes first
    by_mixer = {arm.mixer: arm for arm in reversed(ranked) if arm.mixer is not None and arm.is_scratch}
    own = by_mixer.pop("attention", None)
    if own is None or not by_mixer:
        return [], []
    words = {"none": "the same network with nothing in its place", "conv": "a convolution of equal cost"}
    others = [(by_mixer[mixer], said) for mixer, said in words.items() if mixer in by_mixer]
    pairs, said = _held(own, others)
    earned = all(p.found.low > 0 for p in pairs)
    harmed = any(p.found.high < 0 for p in pairs)
    verdict = "earned its time" if earned else "did not pay" if harmed else "did not show that it earns its time"
    return [
        f"Attention {verdict} on these pictures: {said}{of_seeds(min(pairs, key=lambda p: p.found.seeds).found)}."
    ], pairs


def teaching(ranked: Sequence[Contender]) -> tuple[list[str], list[Pair]]:
    """Whether the transformer was better with a teacher than without; its twins, who have none, stand beside."""
    taught = next((arm for arm in ranked if arm.untaught), None)
    alone = next((arm for arm in ranked if taught and arm.name == taught.untaught), None)
    if taught is None or alone is None:
        return [], []
    twins = [arm for arm in ranked if arm.mixer in ("none", "conv") and arm.is_scratch] if alone.mixer else []
    pairs, said = _held(taught, [(arm, arm.name) for arm in (alone, *twins)])
    gain = pairs[0].found
    verdict = "helped" if gain.low > 0 else "did harm" if gain.high < 0 else "did not show that it helps"
    return [f"The teacher {taught.teacher} {verdict} on these pictures: {said}{of_seeds(gain)}."], pairs


def _held(own: Contender, others: Sequence[tuple[Contender, str]]) -> tuple[list[Pair], str]:
    """``own`` against each of the others, and that in words."""
    pairs = [Pair(own, other, difference(own.right, other.right)) for other, _ in others]
    words = [f"{gap(p.found, signed=True)} against {said}" for p, (_, said) in zip(pairs, others, strict=True)]
    return pairs, f"{own.name} {' and '.join(words)}"


def _cost(first: Contender, second: Contender) -> str:
    """What the better one costs in time an answer, beside the other."""
    if not first.latency_ms or not second.latency_ms:
        return ""
    ratio = first.latency_ms / second.latency_ms
    times = f"{first.latency_ms:.1f} ms a picture against {second.latency_ms:.1f}"
    if ratio > _ALIKE:
        return f", at {ratio:.1f} times its time to answer ({times})"
    return f", and answers {1 / ratio:.1f} times as fast ({times})" if ratio < 1 / _ALIKE else f", as fast ({times})"


def _cheaper(a: Contender, b: Contender) -> tuple[Contender, str] | None:
    """The one that answers faster, if either clearly does."""
    if not a.latency_ms or not b.latency_ms:
        return None
    fast, slow = sorted((a, b), key=lambda arm: arm.latency_ms or 0.0)
    ratio = (slow.latency_ms or 0.0) / (fast.latency_ms or 1.0)
    return (fast, f"answers {ratio:.1f} times as fast") if ratio > _ALIKE else None


def of_seeds(found: Difference) -> str:
    """What is to be said where the seeds are too few, as the end of a sentence."""
    if found.seeds < 2:
        return "; one seed each, so luck of the seed is not in this interval"
    return "; two seeds are too few to know their luck, so trust this interval less" if found.seeds == 2 else ""


def _round(number: float) -> int:
    """Two digits are all that such a number has."""
    size = max(1, 10 ** (len(str(int(number))) - 2))
    return int(-(-number // size) * size)
