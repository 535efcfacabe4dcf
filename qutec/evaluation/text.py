"""An evaluation for a terminal: one table a subject, a column for each execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qutec.evaluation.scores import AccuracyDrop, Scores
from qutec.evaluation.suggestions import (
    AbstainSuggestion,
    MonitorSuggestion,
    Suggestions,
    TemperatureSuggestion,
)
from qutec.thresholds import Selection

__all__ = ["evaluation_text"]

_AREAS = {
    "id_wrong": "right against wrong",
    "id_corrupted_wrong": "right against wrong, clean and corrupted",
    "ood": "right against out of distribution",
}
_RULES = {
    "detection": "best F1 of finding windows with dropped accuracy",
    "false_alarms": "at most {share:.2%} of clean windows raise a false alarm",
}


def evaluation_text(
    head: Sequence[tuple[str, str]],
    executions: Mapping[str, Scores | None],
    suggestions: Suggestions | None,
    warnings: Sequence[str],
) -> str:
    """The whole text; `head` is what comes first, by title."""
    found = {name: scores for name, scores in executions.items() if scores is not None}
    blocks = [
        [f"{title:<13}{words}" for title, words in head],
        _calibration(found),
        _exits(found),
        _failures(found),
        *(_drop(name, scores.accuracy_drop) for name, scores in found.items()),
    ]
    if suggestions is not None:
        blocks.append(_suggestions(suggestions))
    blocks.append([f"warning: {text}" for text in warnings])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _calibration(found: Mapping[str, Scores]) -> list[str]:
    lines = [f"{'':<13}{'samples':>9}{'accuracy':>10}{'f1':>9}{'brier':>9}{'nll':>9}{'ece':>9}"]
    for name, s in found.items():
        values = "".join(f"{value:>9.4f}" for value in (s.f1, s.brier, s.nll, s.ece))
        lines.append(f"{name:<13}{s.samples:>9,}{s.accuracy:>10.4f}{values}")
    return lines


def _exits(found: Mapping[str, Scores]) -> list[str]:
    """Accuracy of each exit, where there is more than one."""
    lines = []
    for name, scores in found.items():
        if len(scores.exit_accuracy) > 1:
            lines += [
                f"{name:<13}{exit_:<30}{accuracy:>8.4f}" for exit_, accuracy in scores.exit_accuracy.items()
            ]
    return ["accuracy of each exit", *lines] if lines else []


def _failures(found: Mapping[str, Scores]) -> list[str]:
    lines = ["failure detection: AUROC of the confidence"]
    for name, scores in found.items():
        for key, area in scores.auroc.items():
            value = "   none" if area.value is None else f"{area.value:7.4f}"
            why = f"  {area.reason}" if area.reason else f"  ({area.right:,} against {area.failures:,})"
            lines.append(f"{name:<13}{_AREAS[key]:<42}{value}{why}")
    return lines


def _drop(name: str, drop: AccuracyDrop | None) -> list[str]:
    if drop is None:
        return []
    limit = "" if drop.accuracy_limit is None else f", dropped at {drop.accuracy_limit:.4f} or less"
    lines = [
        f"accuracy drop, {name}: windows of {drop.window}{limit}",
        f"{'':<26}{'samples':>9}{'accuracy':>10}{'windows':>9}{'dropped':>9}{'AUPRC':>9}",
    ]
    for row in drop.corruptions:
        area = f"{'none':>9}" if row.auprc is None else f"{row.auprc:>9.4f}"
        lines.append(
            f"{row.name:<26}{row.samples:>9,}{row.accuracy:>10.4f}{row.windows:>9,}{row.dropped_windows:>9,}"
            + area
            + (f"  {row.reason}" if row.reason else "")
        )
    mean = f"{'none':>9}" if drop.auprc is None else f"{drop.auprc:>9.4f}"
    lines.append(f"{f'mean over {drop.counted}':<63}{mean}")
    return lines


def _suggestions(s: Suggestions) -> list[str]:
    return [
        f"suggestions from {s.execution}: chosen on {s.chosen_on:,} samples, measured on the other "
        f"{s.measured_on:,}",
        *_abstain(s.abstain),
        *_monitor(s.monitor),
        *_temperature(s.temperature),
    ]


def _abstain(a: AbstainSuggestion) -> list[str]:
    if a.level is None:
        return [f"  abstain      none: {a.reason}"]
    how = a.option or f"where the confidence is below {a.level:g}; in your code, there is no abstain flag"
    lines = [
        f"  abstain      {how}    (accuracy of what is answered: {a.target_accuracy:.4f} or"
        f" more; {a.accuracy_without:.4f} without)"
    ]
    titles = (("clean", a.answered), ("corrupted", a.corrupted))
    lines += [f"    {title:<11}{_selection(effect)}" for title, effect in titles if effect is not None]
    if a.foreign is not None:
        answered = f"answers {a.foreign.kept:,} of {a.foreign.samples:,}"
        lines.append(f"    {'foreign':<11}{answered}: coverage {a.foreign.coverage:.4f}")
    return lines


def _selection(effect: Selection) -> str:
    risk = "" if effect.risk is None else f", {effect.wrong:,} of them wrong: risk {effect.risk:.4f}"
    return f"answers {effect.kept:,} of {effect.samples:,}: coverage {effect.coverage:.4f}{risk}"


def _monitor(m: MonitorSuggestion) -> list[str]:
    if m.threshold is None or m.effect is None:
        return [f"  monitor      none: {m.reason}"]
    effect = m.effect
    share = effect.false_alarms / effect.clean_windows
    lines = [
        f"  monitor      {m.call};    (rho {m.rho:.4f}; {_RULES[m.rule].format(share=m.share)})",
        f"    clean      false alarms in {effect.false_alarms:,} of {effect.clean_windows:,} windows:"
        f" {share:.2%}",
    ]
    if effect.f1 is not None:
        lines.append(
            f"    corrupted  finds {effect.detected:,} of {effect.dropped:,} dropped windows:"
            f" {effect.detected / effect.dropped:.2%}; {effect.alarms:,} alarms, F1 {effect.f1:.4f}"
        )
    if m.reason:
        lines.append(f"    {m.reason}")
    return lines


def _temperature(t: TemperatureSuggestion) -> list[str]:
    if t.temperature is None or t.nll is None or t.ece is None:
        return [f"  temperature  none: {t.reason}"]
    verdict = "" if t.improves else "    (no better: leave it at 1)"
    return [
        f"  temperature  {t.temperature:g}{verdict}",
        f"    float      NLL {t.nll[0]:.4f} -> {t.nll[1]:.4f}, ECE {t.ece[0]:.4f} -> {t.ece[1]:.4f};"
        " it changes confidences: choose the others again with it",
    ]
