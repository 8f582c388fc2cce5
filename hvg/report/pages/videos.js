// The longest video is the clock. All start together when all can play, and again when the clock has run out; a shorter one
// waits on its last frame. Players drift: one that is off by less than a tenth of a second runs a little faster or slower
// until it is not, one that is off by more is moved.
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
