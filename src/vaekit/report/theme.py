"""The style sheet of the page: light and dark, telephone and paper, fonts of the system."""

from vaekit.report.markup import Markup

STYLE = Markup("""
:root { color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #1f2430; --muted: #667085; --line: #e4e7ec; --code: #f2f4f7;
  --accent: #0072b2; --train: #0072b2; --val: #d55e00; --warn: #b54708; --warn-paper: #fffaeb; --note-paper: #eff8ff; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #10141b; --card: #181e28; --ink: #e8ebf0; --muted: #98a2b3; --line: #2a3240; --code: #212936;
  --accent: #64b5e8; --train: #64b5e8; --val: #f2935c; --warn: #fdb022; --warn-paper: #2b2413; --note-paper: #14263a; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", sans-serif; }
main, header > div, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 30px 0 0; }
.brand { display: flex; align-items: center; gap: 9px; color: var(--muted); font-size: 14px; font-weight: 600; }
.brand svg { width: 26px; height: 18px; }
.brand path { fill: none; stroke-width: 2.6; stroke-linecap: round; }
h1 { font-size: clamp(26px, 4.5vw, 38px); line-height: 1.15; letter-spacing: -.02em; margin: 12px 0 10px; }
h2 { font-size: 22px; letter-spacing: -.01em; margin: 52px 0 14px; }
h3 { font-size: 16px; margin: 0 0 4px; }
p { margin: 0 0 10px; }
.lead { color: var(--muted); max-width: 68ch; }
.facts { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 22px; padding: 0; list-style: none; font-size: 14px; }
.facts li { background: var(--code); border-radius: 99px; padding: 3px 12px; }
.facts span { color: var(--muted); margin-right: 6px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 14px; }
nav a { color: var(--muted); text-decoration: none; padding: 9px 0; border-bottom: 2px solid transparent; }
nav a:hover, nav a:focus-visible { color: var(--ink); border-color: var(--accent); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 20px 22px; }
.cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(215px, 100%), 1fr)); margin-top: 30px; }
.cards .label { font-size: 14px; font-weight: 600; color: var(--muted); margin: 0 0 6px; }
.cards .value { font-size: 34px; line-height: 1.1; font-weight: 650; letter-spacing: -.02em; margin: 0;
  font-variant-numeric: tabular-nums; }
.cards .error { margin: 5px 0 0; font-variant-numeric: tabular-nums; }
.cards .count { font-size: 13.5px; color: var(--muted); text-align: left; margin: 0 0 12px; }
.cards .meaning { font-size: 13.5px; line-height: 1.4; color: var(--muted); margin: 0; border-top: 1px solid var(--line);
  padding-top: 10px; }
.finding { position: relative; overflow: hidden; margin-bottom: 14px; padding-left: 26px; }
.finding::before { content: ""; position: absolute; inset: 0 auto 0 0; width: 5px; background: var(--accent); }
.finding.warning::before { background: var(--warn); }
.finding .badge { display: inline-block; font-size: 12px; font-weight: 650; padding: 1px 10px; border-radius: 99px;
  margin-bottom: 8px; background: var(--note-paper); color: var(--accent); }
.finding.warning .badge { background: var(--warn-paper); color: var(--warn); }
.finding dl { margin: 10px 0 0; display: grid; grid-template-columns: 96px 1fr; gap: 5px 14px; font-size: 15px; }
.finding dt { color: var(--muted); }
.finding dd { margin: 0; }
.incomplete { background: var(--warn-paper); border-color: transparent; margin-top: 30px; }
.incomplete ul { margin: 6px 0 0; padding-left: 20px; }
.charts { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(310px, 100%), 1fr)); }
.charts + .card { margin-top: 16px; }
.charts .card { padding: 16px 14px 8px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; font-family: inherit; }
.chart-title { font-size: 16px; font-weight: 650; fill: var(--ink); }
.chart-unit, .chart-tick, .chart-note { font-size: 12.5px; fill: var(--muted); font-variant-numeric: tabular-nums; }
.chart-grid { stroke: var(--line); }
.chart-line { fill: none; stroke-width: 2.4; stroke-linejoin: round; stroke-linecap: round; }
.chart-line.train { stroke: var(--train); }
.chart-line.val { stroke: var(--val); }
.chart-point { opacity: 0; stroke: var(--card); stroke-width: 2; }
.chart-point.train { fill: var(--train); }
.chart-point.val { fill: var(--val); }
.chart-point:hover, .chart-point.shown { opacity: 1; }
.legend { display: flex; gap: 20px; font-size: 14px; color: var(--muted); }
.key::before { content: ""; display: inline-block; width: 20px; height: 4px; border-radius: 2px; margin-right: 8px;
  vertical-align: middle; background: var(--train); }
.key.val::before { background: var(--val); }
.pictures { display: grid; gap: 18px; grid-template-columns: repeat(2, minmax(0, 1fr)); grid-auto-flow: dense; }
.pictures figure { margin: 0; }
.pictures .wide { grid-column: 1 / -1; }
figure img { display: block; max-width: 100%; height: auto; margin: 12px auto 0; border-radius: 8px; background: #ffffff; }
figcaption p { color: var(--muted); font-size: 14.5px; margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }
th { text-align: left; white-space: nowrap; color: var(--muted); font-weight: 600; font-size: 13px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th.value, th.count, td.value, td.count { text-align: right; }
td.value { font-weight: 600; white-space: nowrap; }
td.error { padding-left: 0; color: var(--muted); white-space: nowrap; }
td.name, td.key { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 13.5px; }
td.unit, td.note { color: var(--muted); }
td.unit, td.count, .numbers td.name { white-space: nowrap; }
td, h1, h3, figcaption, .facts li { unicode-bidi: isolate; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 13.5px; }
pre { background: var(--code); border-radius: 10px; padding: 14px 16px; margin: 8px 0 14px; white-space: pre-wrap; }
code { background: var(--code); border-radius: 5px; padding: 2px 6px; }
summary { cursor: pointer; font-weight: 600; }
footer { color: var(--muted); font-size: 14px; padding: 40px 24px 56px; }
@media (max-width: 720px) {
  main, header > div, footer { padding-left: 16px; padding-right: 16px; }
  .pictures { grid-template-columns: minmax(0, 1fr); }
  .finding dl { grid-template-columns: 1fr; gap: 0; } .finding dd { margin-bottom: 8px; }
  h2 { margin-top: 38px; } .card { padding: 16px; } }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root { --paper: #ffffff; --card: #ffffff; --ink: #000000; --muted: #444444; --line: #cccccc; --code: #f4f4f4;
    --train: #0072b2; --val: #d55e00; }
  body { font-size: 11pt; } nav { display: none; } header { padding-top: 0; }
  .card, figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .charts { grid-template-columns: repeat(3, 1fr); }
  details::details-content { content-visibility: visible; block-size: auto; } }
""")

# the mark: a prior, and the posterior that an example leaves of it
MARK = Markup(
    '<svg viewBox="0 0 34 24" aria-hidden="true">'
    '<path d="M1 22C9 22 10 9 17 9s8 13 16 13" stroke="var(--train)"></path>'
    '<path d="M14 22c5 0 4-20 8-20s3 20 8 20" stroke="var(--val)"></path></svg>'
)
