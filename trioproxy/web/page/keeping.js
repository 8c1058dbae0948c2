// What of the playground outlives a reload: in this tab, and no longer than it.

const STAGE = "trioproxy.playground";

export function keep(stage) {
  try {
    sessionStorage.setItem(STAGE, JSON.stringify(stage));
  } catch {
    // Too much text for the browser's quota. It can be had again, from the first event.
    const viewers = stage.viewers.map((viewer) => ({ ...viewer, seq: null, start: null, text: "" }));
    sessionStorage.setItem(STAGE, JSON.stringify({ ...stage, viewers }));
  }
}

/** What was kept last, null if nothing was. */
export function kept() {
  return JSON.parse(sessionStorage.getItem(STAGE));
}
