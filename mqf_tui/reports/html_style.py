"""The style of the page: both themes, phone, desktop and paper."""

from __future__ import annotations

from mqf_tui.reports.colours import DARK, FONT, LIGHT, MONO, by_variable, chart_style, variables
from mqf_tui.reports.heatmap import heat_style

_RULES = f"""
*{{box-sizing:border-box}}
body{{margin:0;background:var(--background);color:var(--ink);font:15px/1.55 {FONT};
-webkit-text-size-adjust:100%}}
main{{max-width:880px;margin:0 auto;padding:32px 24px 56px}}
h1{{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}}
h2{{font-size:19px;margin:44px 0 12px;padding-bottom:6px;border-bottom:1px solid var(--grid)}}
h3{{font-size:15px;margin:24px 0 8px;overflow-wrap:anywhere}}
h3 small,.muted{{color:var(--muted);font-weight:400;font-size:13px}}
p{{margin:8px 0}}
.setting{{margin:0 0 16px;overflow-wrap:anywhere}}
.verdict{{display:inline-block;margin-right:8px;padding:5px 14px;border-radius:17px;
font-weight:600;color:var(--on-verdict)}}
.good{{color:var(--good)}}.marginal{{color:var(--marginal)}}.bad{{color:var(--bad)}}
.verdict.good{{background:var(--good);color:var(--on-verdict)}}
.verdict.marginal{{background:var(--marginal);color:var(--on-verdict)}}
.verdict.bad{{background:var(--bad);color:var(--on-verdict)}}
.cards{{display:grid;grid-template-columns:repeat(3,1fr);gap:12px;margin:20px 0}}
.card{{background:var(--panel);border:1px solid var(--grid);border-radius:10px;padding:12px 14px}}
.card b{{display:block;font-size:24px;line-height:1.3}}
.card span{{display:block;font-size:13px;color:var(--muted)}}
.card .reached{{float:right;font-weight:600}}
.card .good{{color:var(--good)}}.card .marginal{{color:var(--marginal)}}.card .bad{{color:var(--bad)}}
.doubts{{background:var(--panel);border-left:4px solid var(--marginal);border-radius:0 8px 8px 0;
padding:10px 16px;margin:16px 0}}
.doubts ul{{margin:4px 0;padding-left:20px}}.doubts li{{overflow-wrap:anywhere}}
svg{{display:block;width:100%;height:auto;margin:16px 0 28px}}
.narrow{{display:none}}
.scroll{{overflow-x:auto}}
table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}}
th,td{{padding:5px 14px 5px 0;text-align:right;border-bottom:1px solid var(--grid);vertical-align:top}}
th{{font-size:13px;font-weight:600;color:var(--muted);white-space:nowrap}}
tbody th{{font-size:15px;font-weight:400;color:var(--ink);white-space:normal}}
.figures td{{white-space:nowrap}}
.close td,.close th{{padding-right:8px;font-size:13px}}
th:first-child,td:first-child,.left{{text-align:left}}
th:last-child,td:last-child{{padding-right:0}}
td code,td.text{{overflow-wrap:anywhere}}
.from td{{text-align:left;overflow-wrap:anywhere}}.from th{{white-space:nowrap;color:var(--muted)}}
code,pre{{font-family:{MONO};font-size:13px}}
pre{{background:var(--panel);border:1px solid var(--grid);border-radius:8px;padding:12px 14px;
white-space:pre-wrap;overflow-wrap:anywhere}}
.key{{font-size:13px;line-height:2}}
.worst td,.worst th{{font-size:13px;text-align:left}}.worst .text{{min-width:9em}}
.worst .num{{white-space:nowrap}}
footer{{margin-top:44px;color:var(--muted);font-size:13px}}
@media (max-width:640px){{
main{{padding:20px 16px 40px}}
h1{{font-size:21px}}
.cards{{grid-template-columns:1fr;gap:8px}}
.wide{{display:none}}.narrow{{display:block}}
.figures td{{white-space:normal}}
th,td{{padding-right:10px}}
tbody th,td{{font-size:14px}}
.tokens{{font-size:13px}}
}}
@media print{{
body{{font-size:11pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}}
main{{max-width:none;padding:0}}
.wide{{display:block}}.narrow{{display:none}}
svg,tr,.card,.doubts{{break-inside:avoid}}h2,h3{{break-after:avoid}}
.scroll{{overflow:visible}}
}}
"""


def page_style() -> str:
    """All rules of the page; no text from outside goes in."""
    light, dark = variables(LIGHT), variables(DARK)
    themes = (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"@media print{{:root{{{light}}}}}\n"
    )
    return themes + _RULES.strip() + "\n" + chart_style(by_variable()) + "\n" + heat_style()
