// A chart is drawn as soon as it has a width, and again when that changes: what is not chosen has none.
for (const box of document.querySelectorAll(".chart")) {
  const { data, layout } = JSON.parse(box.querySelector("script").textContent);
  // A finger scrolls the page; a mouse marks what to enlarge.
  layout.dragmode = matchMedia("(pointer: fine)").matches && !box.matches(".parallel") ? "zoom" : false;
  const draw = (width) => {
    if (!width) return;
    if (box.on) return Plotly.relayout(box, { width });
    Plotly.newPlot(box, data, { ...layout, width }, { displayModeBar: false });
    for (const [kind, lit] of [["plotly_hover", true], ["plotly_unhover", false]]) {
      box.on(kind, ({ points }) => box.querySelectorAll(".trace")[points[0].curveNumber].classList.toggle("lit", lit));
    }
  };
  new ResizeObserver(() => draw(box.clientWidth)).observe(box);
  // Paper is narrower than most windows.
  addEventListener("beforeprint", () => draw(Math.min(box.clientWidth, 680)));
  addEventListener("afterprint", () => draw(box.clientWidth));
}
