// Dragging along an axis keeps the lines that cross it there; a click takes the choice back. A pointer on a line lights its
// row of the table, and the other way round.
for (const box of document.querySelectorAll(".parallel")) {
  const chosen = new Map(), rows = new Map();
  for (const row of document.querySelectorAll("tr[data-trial]")) rows.set(row.dataset.trial, row);
  const lines = () => [...box.querySelectorAll(".overplot > .xy .trace")];
  const nameOf = (line) => box.data[lines().indexOf(line)].name;
  // The nearest axis, and the share of it that is below the pointer.
  const placeOf = (event) => {
    const area = box.querySelector(".nsewdrag").getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
    return [Math.round(share * box.layout.xaxis.range[1]), 1 - (event.clientY - area.top) / area.height];
  };
  const mark = () => lines().forEach((line, i) => {
    const { name, y } = box.data[i];
    const out = [...chosen].some(([axis, [low, high]]) => !(y[axis] >= low && y[axis] <= high));
    line.classList.toggle("out", out);
    rows.get(name)?.classList.toggle("out", out);
  });
  const look = { type: "rect", xsizemode: "pixel", x0: -14, x1: 14, fillcolor: "#757b84", opacity: 0.3, line: { width: 0 } };
  const choose = () => {
    mark();
    Plotly.relayout(box, "shapes", [...chosen].map(([xanchor, [y0, y1]]) => ({ ...look, xanchor, y0, y1 })));
  };
  let from = null;
  box.addEventListener("pointerdown", (event) => {
    from = placeOf(event);
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [axis, start] = from, [, end] = placeOf(event);
    if (Math.abs(end - start) < 0.01) return;
    chosen.set(axis, [Math.min(start, end), Math.max(start, end)]);
    choose();
  });
  box.addEventListener("pointerup", (event) => {
    if (!from || Math.abs(placeOf(event)[1] - from[1]) >= 0.01) return;
    chosen.delete(from[0]);
    choose();
  });
  box.addEventListener("lostpointercapture", () => { from = null; });
  for (const [kind, lit] of [["pointerover", true], ["pointerout", false]]) {
    box.addEventListener(kind, (event) => {
      const line = event.target.closest(".trace");
      if (!line) return;
      line.classList.toggle("lit", lit);
      rows.get(nameOf(line))?.classList.toggle("lit", lit);
      const pointNumber = placeOf(event)[0];
      lit ? Plotly.Fx.hover(box, [{ curveNumber: lines().indexOf(line), pointNumber }]) : Plotly.Fx.unhover(box);
    });
  }
  for (const [name, row] of rows) {
    for (const [kind, lit] of [["pointerenter", true], ["pointerleave", false]]) {
      row.addEventListener(kind, () => lines().find((line) => nameOf(line) === name)?.classList.toggle("lit", lit));
    }
  }
}
