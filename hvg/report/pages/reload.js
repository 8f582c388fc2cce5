// The page is written anew while runs go on, so it is loaded again every so many seconds: but not while somebody has said
// not to, which holds for this window, nor while a button of the mouse is down. Browsers keep the place that was scrolled to.
const hold = document.querySelector("#hold");
if (hold) {
  const seconds = Number(hold.dataset.seconds), key = "held " + location.pathname;
  let held = sessionStorage.getItem(key) === "yes", down = false;
  const say = () => { hold.textContent = held ? `Load again every ${seconds} s` : "Stop loading again"; };
  hold.addEventListener("click", () => {
    held = !held;
    sessionStorage.setItem(key, held ? "yes" : "no");
    say();
  });
  addEventListener("pointerdown", () => { down = true; });
  addEventListener("pointerup", () => { down = false; });
  say();
  hold.hidden = false;
  setInterval(() => { if (!held && !down && !document.hidden) location.reload(); }, 1000 * seconds);
}
