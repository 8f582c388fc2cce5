"""The script of report.html: tables sort and say that they scroll, videos keep step, tables are copied, a metric is chosen."""

# A click on a head sorts every tbody on its own: baselines and published rows stay below the arms. Rows without a value go
# last. A cell may cover several columns, so that a head's column is counted, not a cell's place.
SORTING = """
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
"""

# The longest video is the clock. All start together when all can play, and again when the clock has run out; a shorter one
# waits on its last frame. Players drift: one that is off by less than a tenth of a second runs a little faster or slower
# until it is not, one that is off by more is moved.
VIDEOS = """
const everyVideo = [...document.querySelectorAll("video")];
const event = (target, ...names) => new Promise((done) => {
  for (const name of names) target.addEventListener(name, done, { once: true });
});
async function keepStep() {
  await Promise.all(everyVideo.map((v) => v.readyState >= 3 || v.error || event(v, "canplay", "error")));
  const videos = everyVideo.filter((video) => !video.error);
  if (!videos.length) return;
  const clock = videos.reduce((a, b) => (b.duration > a.duration ? b : a));
  const pauseButton = document.querySelector("#pause"), slider = document.querySelector("#time");
  let running = false, speed = 1;
  const due = (video) => Math.min(clock.currentTime, video.duration);
  const start = (video) => video.play().catch(() => {});
  const moveAll = (time) => Promise.all(videos.map((video) => {
    const target = Math.min(time, video.duration);
    if (video.currentTime === target) return;
    video.currentTime = target;
    return event(video, "seeked");
  }));
  const setSpeed = (value) => {
    speed = value;
    for (const video of videos) video.playbackRate = value;
  };
  const run = (value) => {
    running = value;
    pauseButton.textContent = running ? "Pause all" : "Play all";
    for (const video of videos) running ? start(video) : video.pause();
    if (!running) moveAll(clock.currentTime);
  };
  const correct = () => {
    if (running && !clock.seeking && !clock.ended) {
      slider.value = clock.currentTime / clock.duration;
      for (const video of videos) {
        if (video === clock || video.seeking) continue;
        const late = due(video) - video.currentTime;
        if (Math.abs(late) > 0.1 * Math.max(speed, 1)) video.currentTime = due(video);
        else video.playbackRate = Math.abs(late) < 0.005 ? speed : speed * (1 + Math.sign(late) * 0.1);
      }
    }
    requestAnimationFrame(correct);
  };
  const restart = async (time) => {
    for (const video of videos) video.pause();
    await moveAll(time);
    if (running) run(true);
  };
  clock.addEventListener("ended", () => restart(0));
  for (const video of videos) video.addEventListener("click", () => run(!running));
  pauseButton.addEventListener("click", () => run(!running));
  document.querySelector("#speed").addEventListener("change", (change) => setSpeed(Number(change.target.value)));
  slider.addEventListener("input", () => restart(slider.value * clock.duration));
  run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  requestAnimationFrame(correct);
}
keepStep();
"""

COPYING = """
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const address = document.getElementById(button.dataset.from).href, label = button.textContent;
    await navigator.clipboard.writeText(decodeURIComponent(address.slice(address.indexOf(",") + 1)));
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}
"""

# A menu shows one of the parts whose class is its id: that of the chosen metric.
CHOOSING = """
for (const menu of document.querySelectorAll("select.choice")) {
  menu.addEventListener("change", () => {
    for (const part of document.querySelectorAll("." + menu.id)) part.hidden = part.dataset.metric !== menu.value;
  });
}
"""

# What is wider than the window says so, and where there is more of it.
SCROLLING = """
for (const box of document.querySelectorAll(".scroll")) {
  const mark = () => {
    const left = box.scrollLeft > 1, right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
    box.dataset.more = (left ? "left " : "") + (right ? "right" : "");
    left || right ? box.setAttribute("tabindex", 0) : box.removeAttribute("tabindex");
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
}
"""

SCRIPT = SORTING + VIDEOS + COPYING + CHOOSING + SCROLLING
