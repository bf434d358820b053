// Keeps a page fresh: when something happens, the page is fetched anew and what changed is swapped
// in. Without this script every page works; it is then as fresh as its last load.
"use strict";
(() => {
  const root = document.body.dataset.root;
  const settle = 700;       // ms in which several events lead to one fetch
  const apart = 3000;       // ms between two fetches of a page at least
  const quiet = 20000;      // ms after which a page is fetched although nothing was heard
  const lock = "muster-live";
  let timer = 0, last = Date.now(), busy = false, stream = null;

  // What somebody is working with is left alone.
  const held = (part) =>
    part.contains(document.activeElement) && /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)
    || part.querySelector("input:checked") !== null;

  const swap = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const next = fresh.getElementById(part.id);
      if (!next || held(part) || next.outerHTML === part.outerHTML) continue;
      const focused = part.contains(document.activeElement)
        ? [...part.querySelectorAll("a,button")].indexOf(document.activeElement) : -1;
      const scrolled = [...part.querySelectorAll(".scrolled")].map((box) => box.scrollLeft);
      const taken = document.importNode(next, true);
      part.replaceWith(taken);
      taken.querySelectorAll(".scrolled").forEach((box, n) => { box.scrollLeft = scrolled[n] || 0; });
      if (focused >= 0) taken.querySelectorAll("a,button")[focused]?.focus();
    }
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (answer.ok) swap(await answer.text());
      document.documentElement.dataset.fresh = String(Date.now());
    } catch { /* the hub is away: the next event or the next look finds it */ }
    last = Date.now();
    busy = false;
  };

  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(settle, last + apart - Date.now()));
  };

  // One stream for all pages of a browser: who holds the lock listens and passes on.
  const channel = "BroadcastChannel" in window ? new BroadcastChannel(lock) : null;
  if (channel) channel.onmessage = soon;
  const heard = () => { soon(); channel?.postMessage("changed"); };
  const listen = () => new Promise(() => {
    stream = new EventSource(`${root}live`);
    for (const kind of ["update", "refused", "rolled_back", "worker_died", "drift", "rollout", "alert",
      "enrolled", "approved", "revoked", "note", "changed"]) stream.addEventListener(kind, heard);
  });
  if (navigator.locks) navigator.locks.request(lock, listen);
  else listen();

  // A part that is watched live says how often it wants to be fetched.
  const pace = () => Number(document.querySelector("[data-quiet]")?.dataset.quiet) || quiet;
  setInterval(() => { if (Date.now() - last > pace()) refresh(); }, 1000);
  document.addEventListener("visibilitychange", soon);
  document.documentElement.dataset.live = "yes";
})();
