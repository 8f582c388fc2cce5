"""The page and style sheet of report.html; everything is inline, so the file opens from disk on its own."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""

# Line colours follow Okabe and Ito's palette, which people with colour-deficient sight tell apart, tuned per theme.
STYLE = """
:root {
  --paper: #ffffff; --ink: #1c1e21; --quiet: #646b73; --rule: #e2e5e9; --wash: #f6f7f9; --link: #0b62a8;
  --better: #1a7f37; --worse: #b93a2b;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b8578f; --c4: #8a6d00; --c5: #3c9bd1;
  --c6: #6b4fa0; --c7: #5a5f66;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e4e6e9; --quiet: #98a0a9; --rule: #2d3238; --wash: #1b1f23; --link: #6db3f2;
    --better: #57c878; --worse: #f0816f;
    --c0: #4aa8e0; --c1: #f28a3c; --c2: #2fc79b; --c3: #e08fbe; --c4: #d9b93a; --c5: #8fd0f5;
    --c6: #a990e0; --c7: #a5abb3;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 48px 24px 96px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.015em; margin: 0 0 8px; }
h2 { font-size: 19px; margin: 56px 0 12px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 8px 0; max-width: 72ch; }
.question { font-size: 18px; color: var(--quiet); margin: 0 0 20px; }
.finding { font-size: 20px; line-height: 1.4; margin: 0 0 12px; }
.note { color: var(--quiet); font-size: 14px; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { background: var(--wash); border-radius: 4px; padding: 1px 5px; }
pre { background: var(--wash); border-radius: 6px; padding: 10px 14px; overflow-x: auto; margin: 8px 0; }
pre code { background: none; padding: 0; }
.facts { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 0; padding: 0; list-style: none; font-size: 14px; }
.facts b { font-weight: 600; }
.scroll { overflow-x: auto; min-width: 0; }
.scroll:not([data-more=""])[data-more]::before { content: "wider than the window: scroll sideways \\2192";
  position: sticky; left: 0; display: block; width: max-content; font-size: 12px; color: var(--quiet); }
.scroll[data-more~="right"] { mask-image: linear-gradient(to left, transparent, #000 44px); }
.scroll[data-more~="left"] td:first-child { box-shadow: 7px 0 6px -6px var(--quiet); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 9px 8px; border-bottom: 1px solid var(--rule); vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
thead tr:first-child th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); min-width: 150px; }
thead tr + tr th:first-child { text-align: right; padding-left: 8px; }
thead th { white-space: normal; font-size: 13px; font-weight: 600; color: var(--quiet); border-bottom: 1px solid var(--quiet); }
th button { font: inherit; color: inherit; text-align: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th button:hover { color: var(--ink); }
th[aria-sort="ascending"] button::after { content: " \\25B4"; }
th[aria-sort="descending"] button::after { content: " \\25BE"; }
td .value { font-size: 16px; }
td.best .value { font-weight: 700; }
td .difference { display: block; font-size: 12.5px; color: var(--quiet); white-space: normal; }
td .whole, td .difference.whole { white-space: nowrap; }
td .better { color: var(--better); }
td .worse { color: var(--worse); }
td .overrides { display: block; font-size: 12.5px; color: var(--quiet); }
td.missing { color: var(--quiet); }
caption { text-align: left; font-size: 14px; color: var(--quiet); padding-bottom: 4px; }
tbody.baselines, tbody.anchors, tbody.published { color: var(--quiet); }
tbody + tbody tr:first-child td { border-top: 2px solid var(--quiet); }
td[colspan], th[colspan] { text-align: center; }
th[colspan] { border-bottom-color: var(--rule); }
tbody.published, tbody.published td:first-child { background: var(--wash); font-style: italic; }
tbody.published .value { font-size: 15px; }
.tag { font: 600 11px/1 system-ui, sans-serif; letter-spacing: 0.03em; color: var(--ink); background: var(--paper);
  border: 1px solid var(--quiet); border-radius: 4px; padding: 1px 5px; white-space: nowrap; }
td.failed, td.unfinished { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.failed { color: var(--worse); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 16px 32px; }
.chart { width: 100%; height: auto; display: block; }
.charts > .scroll > .chart { min-width: 460px; }
.forest figure { margin: 0; max-width: 500px; }
.forest[hidden] { display: none; }
.chart .zero { stroke: var(--ink); }
.chart .effect { stroke: currentColor; stroke-width: 2; }
.chart .effect text { stroke: var(--paper); stroke-width: 4; paint-order: stroke; font-size: 13px; }
.chart .effect .dot { fill: currentColor; }
.chart .effect .ring { fill: var(--paper); }
.chart text { fill: var(--quiet); font-size: 12px; }
.chart .grid { stroke: var(--rule); }
.chart .axis { stroke: var(--quiet); }
.chart .line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.chart .dashed { stroke-dasharray: 6 4; }
.chart .dots circle { fill: currentColor; }
.chart text.row { fill: var(--ink); }
.chart .item circle { fill: currentColor; fill-opacity: 0.75; }
.chart .item polyline { fill: none; stroke: var(--quiet); stroke-opacity: 0.22; }
.chart .item:hover polyline { stroke: var(--ink); stroke-opacity: 1; stroke-width: 2; }
.chart .item:hover circle { fill-opacity: 1; stroke: var(--ink); }
.chart .median { stroke: var(--ink); stroke-width: 2.5; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; padding: 0; margin: 8px 0;
  font-size: 14px; }
.swatch { display: inline-block; width: 18px; border-top: 3px solid currentColor; vertical-align: middle;
  margin-right: 7px; }
.swatch.dashed { border-top-style: dashed; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
figure { margin: 0 0 28px; }
figcaption { font-size: 14px; color: var(--quiet); margin-bottom: 6px; }
video { max-width: 100%; height: auto; display: block; background: #fff; cursor: pointer;
  border: 1px solid var(--rule); border-radius: 6px; }
a { color: var(--link); }
figure:target figcaption { color: var(--ink); font-weight: 600; }
.controls { display: flex; flex-wrap: wrap; gap: 18px; align-items: center; font-size: 14px; margin-bottom: 16px; }
.controls button, .controls select { font: inherit; color: inherit; background: var(--wash);
  border: 1px solid var(--rule); border-radius: 5px; padding: 3px 12px; }
.controls label { display: inline-flex; gap: 6px; align-items: center; }
.export { margin: 10px 0 0; font-size: 13px; }
.ranking td { vertical-align: top; line-height: 1.7; }
.ranking th, .ranking td, .scoring th, .scoring td { text-align: left; }
.scoring td { font-size: 13px; }
details { margin-top: 16px; }
summary { cursor: pointer; font-weight: 600; font-size: 15px; }
.caveats li { max-width: 72ch; margin: 4px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; font-size: 14px; margin: 8px 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) { .scroll > video { max-width: none; width: 860px; } main { padding: 24px 14px 64px; }
  thead tr:first-child th:first-child, td:first-child { min-width: 104px; max-width: 150px; } }
@media (max-width: 640px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; } }
@media print { .controls { display: none; } }
"""
