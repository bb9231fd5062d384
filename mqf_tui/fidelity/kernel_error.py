"""The error of the quantizer apart from that of the attention kernel, from two runs of one recipe."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from mqf_tui.fidelity.comparison import figures, paired_difference, shared, welch
from mqf_tui.fidelity.intervals import Clusters
from mqf_tui.fidelity.pairing import Subject, UnpairedError, check_streams
from mqf_tui.reports.comparison_schema import Difference
from mqf_tui.reports.rows import between
from mqf_tui.reports.schema import Report
from mqf_tui.reports.sweep_schema import Control
from mqf_tui.reports.text import kl


def difference(first: Subject, second: Subject) -> tuple[Difference, bool]:
    """Mean KL of the second less that of the first, and whether it is paired: else it is Welch's."""
    a, b = first.load(), second.load()
    try:
        check_streams(first.report, second.report)
        x, y = shared(first, a, second, b)
    except UnpairedError:
        return welch(figures(first.report, a)["kl"], figures(second.report, b)["kl"]), False
    return paired_difference(x.kl, y.kl, Clusters.of(x.chunk)), True


def controls(subjects: Sequence[Subject]) -> list[Control]:
    """A Control of each run with kernel "quantized" whose recipe was also measured by standard attention.

    The second is the run with kernel "dequantized", or where there is none the "emulated" one.
    """
    found: list[Control] = []
    for subject in subjects:
        if subject.report.kernel != "quantized":
            continue
        same = [s for s in subjects if s is not subject and _recipe(s.report) == _recipe(subject.report)]
        for kernel in ("dequantized", "emulated"):
            if others := [s for s in same if s.report.kernel == kernel]:
                found.append(control(subject, others[0]))
                break
    return found


def control(total: Subject, quantizer: Subject) -> Control:
    """What of the first one's mean KL is the quantizer's, and what its kernel adds."""
    d, _ = difference(quantizer, total)
    return Control(
        setting=total.report.setting,
        run=total.run,
        control_run=quantizer.run,
        kl_total=d.second,
        kl_quantizer=d.first,
        difference=d,
        words=words(d),
    )


def words(d: Difference) -> str:
    """``of the mean KL 0.0123, 0.0121 come from the quantizer; the kernel adds 0.0002 (0.0001 to 0.0003)``.

    ``d``: the whole less the quantizer's.
    """
    parts = f"of the mean KL {kl(d.second)}, {kl(d.first)} come from the quantizer"
    if d.value == 0 and d.ci in (None, (0.0, 0.0)):
        return f"{parts}; the kernel adds nothing"
    if d.p is None:
        return f"{parts}; the kernel adds {_signed(d.value)}, of which no error is known"
    ends = between(d.ci, kl)
    error = f" ({ends})" if ends else ""
    if not d.beyond_error:
        return f"{parts}; what the kernel adds, {_signed(d.value)}{error}, is within the error"
    if d.value > 0:
        return f"{parts}; the kernel adds {kl(d.value)}{error}"
    return (
        f"the mean KL is {kl(d.second)}, and by standard attention over the same numbers {kl(d.first)}: the "
        f"kernel makes {_signed(d.value)}{error}"
    )


def _signed(value: float) -> str:
    return f"+{kl(value)}" if value > 0 else kl(value)


def _recipe(report: Report) -> Hashable:
    layers = tuple((part.layers, part.format) for part in report.layers.recipe) if report.layers else ()
    return (
        *(report.kind, report.kv_format, report.kv_bits, report.kv_group_size, layers),
        *(report.quantize_start, report.score_last),
    )
