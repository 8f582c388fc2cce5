// A click on a head sorts every tbody on its own: baselines and published rows stay below the arms. Rows without a value go
// last. A cell may cover several columns, so that a head's column is counted, not a cell's place.
const cellUnder = (row, column) => {
  let covered = 0;
  for (const cell of row.cells) if ((covered += cell.colSpan) > column) return cell;
};
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = head.closest("table");
    const direction = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const column = Number(head.dataset.column ?? head.cellIndex);
    const key = (row) => cellUnder(row, column)?.dataset.sort;
    const compare = (a, b) => {
      if (key(a) === undefined || key(b) === undefined) return (key(a) === undefined) - (key(b) === undefined);
      const difference = Number(key(a)) - Number(key(b));
      return sign * (Number.isNaN(difference) ? key(a).localeCompare(key(b)) : difference);
    };
    for (const body of table.tBodies) body.append(...[...body.rows].sort(compare));
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const address = document.getElementById(button.dataset.from).href, label = button.textContent;
    await navigator.clipboard.writeText(decodeURIComponent(address.slice(address.indexOf(",") + 1)));
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}

// A menu shows one of the parts whose class is its id: that of the chosen metric.
for (const menu of document.querySelectorAll("select.choice")) {
  menu.addEventListener("change", () => {
    for (const part of document.querySelectorAll("." + menu.id)) part.hidden = part.dataset.metric !== menu.value;
  });
}

// What is wider than the window says so, and where there is more of it.
for (const box of document.querySelectorAll(".scroll")) {
  const mark = () => {
    const left = box.scrollLeft > 1, right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
    box.dataset.more = (left ? "left " : "") + (right ? "right" : "");
    left || right ? box.setAttribute("tabindex", 0) : box.removeAttribute("tabindex");
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
}
