// Time at a card that counts: the window is seen, and the latest sign of life is a minute ago at most.

const IDLE_MS = 60_000;
const SIGNS = ["keydown", "pointerdown", "pointermove", "wheel", "scroll", "touchstart"];

function makeClock() {
  let spent = 0;
  let since = performance.now();
  let alive = since;
  let seen = !document.hidden;

  function settle() {
    const now = performance.now();
    if (seen) spent += Math.max(0, Math.min(now, alive + IDLE_MS) - since);
    since = now;
    return now;
  }
  function sign() {
    alive = settle();
  }
  function turned() {
    settle();
    seen = !document.hidden;
    if (seen) alive = since;
  }

  const options = { capture: true, passive: true };
  for (const name of SIGNS) document.addEventListener(name, sign, options);
  document.addEventListener("visibilitychange", turned);
  return {
    restart() {
      spent = 0;
      since = alive = performance.now();
      seen = !document.hidden;
    },
    milliseconds() {
      settle();
      return Math.round(spent);
    },
    isAwake() {
      return !document.hidden && performance.now() - alive < IDLE_MS;
    },
    stop() {
      for (const name of SIGNS) document.removeEventListener(name, sign, options);
      document.removeEventListener("visibilitychange", turned);
    },
  };
}
